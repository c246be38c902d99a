/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "gnb_estimator.h"

#include "classical_costs.h"

#include <algorithm>
#include <cmath>

namespace gr::deeprx {

namespace {

using sample = std::complex<float>;

//! As the operator does it for numbers that are finite.
sample times(const sample& a, const sample& b)
{
    return { a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real() };
}

/*!
 * \brief Raised cosine of roll-off 0.2, three of its symbols of 10 subcarriers long, at every
 * second subcarrier; one symbol less for each PRB short of three. Of sum 1.
 */
std::vector<float> raised_cosine(int n_prb)
{
    constexpr double roll_off = 0.2;
    const int half = (10 * std::min(n_prb, 3) + 1) / 2 / 2;
    std::vector<double> taps;
    double sum = 0.0;
    for (int i = -half; i <= half; i++) {
        const double t = 2 * i / 10.0;
        const double sinc = i == 0 ? 1.0 : std::sin(M_PI * t) / (M_PI * t);
        const double edge = 2 * roll_off * t;
        taps.push_back(sinc * std::cos(M_PI * roll_off * t) / (1 - edge * edge));
        sum += taps.back();
    }
    std::vector<float> scaled;
    for (const double tap : taps)
        scaled.push_back(tap / sum);
    return scaled;
}

//! Value at `at` of the line through values at 0, 1, ... in least squares.
double line(const std::vector<double>& values, int at)
{
    const int n = static_cast<int>(values.size());
    double mean = 0.0, slope = 0.0, spread = 0.0;
    const double middle = (n - 1) / 2.0;
    for (int i = 0; i < n; i++) {
        mean += values[i] / n;
        slope += (i - middle) * values[i];
        spread += (i - middle) * (i - middle);
    }
    return mean + slope / spread * (at - middle);
}

} // namespace

gnb_estimator::gnb_estimator(const pilot_layout& layout, int n_rx)
    : channel_estimator(layout, n_rx, { 0 }), d_layout(layout), d_n_rx(n_rx),
      d_n_times(static_cast<int>(layout.dmrs.size())), d_n_pilots(layout.n_pilots()),
      d_taps(raised_cosine(layout.n_subcarriers / 12)),
      d_n_virtual(layout.n_subcarriers == 12 ? d_n_pilots : static_cast<int>(d_taps.size()) / 2),
      d_matched(layout.n_layers() * d_n_times * d_n_pilots),
      d_extended(d_n_pilots + 2 * d_n_virtual), d_averages(layout.n_layers() * d_n_pilots),
      d_modulus(d_n_virtual), d_phase(d_n_virtual)
{
}

void gnb_estimator::update(const float* grid, const float* pilots)
{
    estimate.covariance = {};
    for (int antenna = 0; antenna < d_n_rx; antenna++) {
        const stage_clock::scope stage(
            clock, "pilots", [this] { return cost_of_pilots(d_layout, 1); });
        match(grid, pilots, antenna);
        average(antenna);
        {
            const stage_clock::scope filter(clock, "low pass", [this] {
                return cost_of_low_pass(d_layout, static_cast<int>(d_taps.size()));
            });
            for (int layer = 0; layer < d_layout.n_layers(); layer++)
                low_pass(layer, antenna);
        }
        estimate.covariance[antenna][antenna] = noise(antenna);
    }
}

//! Received pilots over sent ones.
void gnb_estimator::match(const float* grid, const float* pilots, int antenna)
{
    const auto symbol = [&](const float* rows, int row, int time, int layer) {
        const int symbols = row * d_layout.n_symbols + d_layout.dmrs[time];
        return reinterpret_cast<const sample*>(rows) + symbols * d_layout.n_subcarriers +
               d_layout.first_pilot(layer);
    };
    const float power = 1.0f / d_layout.cdm_groups;
    for (int layer = 0; layer < d_layout.n_layers(); layer++)
        for (int time = 0; time < d_n_times; time++) {
            const sample* y = symbol(grid, antenna, time, layer);
            const sample* p = symbol(pilots, layer, time, layer);
            sample* z = matched(layer, time);
            for (int i = 0; i < d_n_pilots; i++)
                z[i] = times(y[2 * i], std::conj(p[2 * i])) * power;
        }
}

void gnb_estimator::average(int antenna)
{
    float& step = estimate.step[antenna];
    step = 0.0f;
    if (d_n_times > 1) {
        std::complex<double> turn = 0.0;
        for (int layer = 0; layer < d_layout.n_layers(); layer++)
            for (int i = 0; i < d_n_pilots; i++)
                turn += times(matched(layer, 1)[i], std::conj(matched(layer, 0)[i]));
        step = std::arg(turn) / (d_layout.dmrs[1] - d_layout.dmrs[0]);
    }
    for (int layer = 0; layer < d_layout.n_layers(); layer++) {
        sample* to = &d_averages[layer * d_n_pilots];
        std::fill_n(to, d_n_pilots, 0.0f);
        for (int time = 0; time < d_n_times; time++) {
            const sample back = std::conj(estimate.turn(antenna, d_layout.dmrs[time]));
            const sample* z = matched(layer, time);
            for (int i = 0; i < d_n_pilots; i++)
                to[i] += times(z[i], back / static_cast<float>(d_n_times));
        }
        if (d_layout.paired())
            for (int i = 0; i < d_n_pilots; i += 2)
                to[i] = to[i + 1] = (to[i] + to[i + 1]) / 2.0f;
    }
}

void gnb_estimator::low_pass(int layer, int antenna)
{
    std::complex<float>* averages = &d_averages[layer * d_n_pilots];
    std::copy_n(averages, d_n_pilots, &d_extended[d_n_virtual]);
    for (const bool start : { true, false }) {
        const int first = start ? 0 : d_n_pilots - d_n_virtual;
        for (int i = 0; i < d_n_virtual; i++) {
            const auto pilot = averages[first + i];
            d_modulus[i] = std::abs(pilot);
            d_phase[i] =
                i == 0 ? std::arg(pilot)
                       : d_phase[i - 1] + std::arg(pilot * std::conj(averages[first + i - 1]));
        }
        for (int i = 0; i < d_n_virtual; i++) {
            const int at = start ? i - d_n_virtual : i + d_n_virtual;
            d_extended[d_n_virtual + first + at] =
                line(d_modulus, at) * std::exp(std::complex<double>(0.0, line(d_phase, at)));
        }
    }
    const int half = static_cast<int>(d_taps.size()) / 2;
    for (int i = 0; i < d_n_pilots; i++) {
        std::complex<float> sum = 0.0f;
        for (size_t tap = 0; tap < d_taps.size(); tap++)
            sum += d_taps[tap] * d_extended[d_n_virtual + i - half + tap];
        averages[i] = sum;
    }
    float* re = estimate.plane(layer, antenna, 0);
    float* im = re + estimate.stride();
    const int first = d_layout.first_pilot(layer), n_sc = d_layout.n_subcarriers;
    for (int k = 0; k < n_sc; k++) {
        const int before = std::max(0, (k - first) >> 1);
        const int after = std::min((k - first + 1) >> 1, d_n_pilots - 1);
        const auto h = (averages[before] + averages[after]) / 2.0f;
        re[k] = h.real();
        im[k] = h.imag();
    }
}

//! Mean power of what the estimates do not explain, in the pilots' REs.
float gnb_estimator::noise(int antenna)
{
    double left = 0.0, signal = 0.0;
    for (const sample& h : d_averages)
        signal += std::norm(h);
    const bool both = d_layout.paired(); // in the same REs, with signs + + and + -
    const int n_layers = both ? 1 : d_layout.n_layers();
    for (int layer = 0; layer < n_layers; layer++) {
        const sample* h = &d_averages[layer * d_n_pilots];
        for (int time = 0; time < d_n_times; time++) {
            const sample turn = estimate.turn(antenna, d_layout.dmrs[time]);
            const sample* z = matched(layer, time);
            for (int i = 0; i < d_n_pilots; i++) {
                const sample second = both ? h[d_n_pilots + i] : 0.0f;
                const sample seen = i % 2 ? h[i] - second : h[i] + second;
                left += std::norm(z[i] - times(turn, seen));
            }
        }
    }
    const double floor = 1e-10 * signal / d_n_pilots; // 100 dB below the signal
    const int places = n_layers * d_n_times * d_n_pilots;
    return std::max({ d_layout.cdm_groups * left / (places - 1), floor, 1e-30 });
}

} // namespace gr::deeprx
