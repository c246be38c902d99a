/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "gnb_estimator.h"

#include <algorithm>
#include <cmath>

namespace gr::deeprx {

namespace {

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
      d_n_pilots(layout.n_pilots()), d_taps(raised_cosine(layout.n_subcarriers / 12)),
      d_n_virtual(layout.n_subcarriers == 12 ? d_n_pilots : static_cast<int>(d_taps.size()) / 2),
      d_extended(d_n_pilots + 2 * d_n_virtual), d_averages(layout.n_layers() * d_n_pilots),
      d_modulus(d_n_virtual), d_phase(d_n_virtual)
{
}

void gnb_estimator::update(const float* grid, const float* pilots)
{
    estimate.covariance = {};
    for (int antenna = 0; antenna < d_n_rx; antenna++) {
        average(grid, pilots, antenna);
        for (int layer = 0; layer < d_layout.n_layers(); layer++)
            low_pass(layer, antenna);
        estimate.covariance[antenna][antenna] = noise(grid, pilots, antenna);
    }
}

//! A layer's pilots' places in a DMRS symbol, every second from there on.
const std::complex<float>*
gnb_estimator::symbol(const float* rows, int row, int time, int layer) const
{
    const int symbols = row * d_layout.n_symbols + d_layout.dmrs[time];
    return reinterpret_cast<const std::complex<float>*>(rows) + symbols * d_layout.n_subcarriers +
           d_layout.first_pilot(layer);
}

void gnb_estimator::average(const float* grid, const float* pilots, int antenna)
{
    const int n_times = static_cast<int>(d_layout.dmrs.size());
    const auto matched = [&](int layer, int time, int i) {
        return symbol(grid, antenna, time, layer)[2 * i] *
               std::conj(symbol(pilots, layer, time, layer)[2 * i]);
    };
    float& step = estimate.step[antenna];
    step = 0.0f;
    if (n_times > 1) {
        std::complex<double> turn = 0.0;
        for (int layer = 0; layer < d_layout.n_layers(); layer++)
            for (int i = 0; i < d_n_pilots; i++)
                turn +=
                    std::complex<double>(matched(layer, 1, i) * std::conj(matched(layer, 0, i)));
        step = std::arg(turn) / (d_layout.dmrs[1] - d_layout.dmrs[0]);
    }
    const float scale = 1.0f / (n_times * d_layout.cdm_groups);
    for (int layer = 0; layer < d_layout.n_layers(); layer++) {
        std::complex<float>* to = &d_averages[layer * d_n_pilots];
        std::fill_n(to, d_n_pilots, 0.0f);
        for (int time = 0; time < n_times; time++) {
            const auto back = scale * std::conj(estimate.turn(antenna, d_layout.dmrs[time]));
            for (int i = 0; i < d_n_pilots; i++)
                to[i] += matched(layer, time, i) * back;
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
float gnb_estimator::noise(const float* grid, const float* pilots, int antenna) const
{
    const int n_times = static_cast<int>(d_layout.dmrs.size());
    double left = 0.0, signal = 0.0;
    int places = 0;
    for (int layer = 0; layer < d_layout.n_layers(); layer++) {
        const std::complex<float>* h = &d_averages[layer * d_n_pilots];
        const bool both = d_layout.paired();
        for (int i = 0; i < d_n_pilots; i++)
            signal += std::norm(h[i]);
        if (both && layer == 1)
            break;
        for (int time = 0; time < n_times; time++) {
            const auto turn = estimate.turn(antenna, d_layout.dmrs[time]);
            for (int i = 0; i < d_n_pilots; i++) {
                auto sent = h[i] * symbol(pilots, layer, time, layer)[2 * i];
                if (both)
                    sent += h[d_n_pilots + i] * symbol(pilots, 1, time, 1)[2 * i];
                left += std::norm(symbol(grid, antenna, time, layer)[2 * i] - turn * sent);
            }
        }
        places += n_times * d_n_pilots;
    }
    const double floor = 1e-10 * signal / d_n_pilots; // 100 dB below the signal
    return std::max({ left / (places - 1), floor, 1e-30 });
}

} // namespace gr::deeprx
