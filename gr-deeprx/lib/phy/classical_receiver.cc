/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_receiver.h"

#include "avx2_only.h"
#include "classical_costs.h"
#include "gnb_estimator.h"
#include "smoothing_estimator.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

#if defined(__x86_64__)
extern const equaliser_kernel equaliser_avx512, equaliser_avx2;
#endif
extern const equaliser_kernel equaliser_any;

std::vector<const equaliser_kernel*> equaliser_kernels()
{
    std::vector<const equaliser_kernel*> kernels;
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && !avx2_only())
        kernels.push_back(&equaliser_avx512);
    if (avx2)
        kernels.push_back(&equaliser_avx2);
#endif
    kernels.push_back(&equaliser_any);
    return kernels;
}

const equaliser_kernel& classical_receiver::best()
{
    static const equaliser_kernel& kernel = *equaliser_kernels().front();
    return kernel;
}

const std::vector<std::string>& classical_names()
{
    static const std::vector<std::string> names{ "ls-lmmse", "sure-lmmse", "gnb" };
    return names;
}

classical_receiver::kind classical_kind(const std::string& name)
{
    const auto& names = classical_names();
    const auto entry = std::find(names.begin(), names.end(), name);
    if (entry == names.end())
        throw std::invalid_argument(
            "a classical receiver is one of ls-lmmse, sure-lmmse, gnb, got '" + name + "'");
    return static_cast<classical_receiver::kind>(entry - names.begin());
}

namespace {

//! Of one axis by the value of its bits, the first highest (TS 38.211 clauses 5.1.3 to 5.1.6).
std::vector<float> pam_levels(int n_bits)
{
    std::vector<float> levels;
    double power = 0.0;
    for (int value = 0; value < 1 << n_bits; value++) {
        int level = 0;
        for (int bit = 0; bit < n_bits; bit++) // the last first
            level = (value >> bit & 1 ? -1 : 1) * ((1 << bit) - level);
        levels.push_back(level);
        power += 2.0 * level * level / (1 << n_bits);
    }
    for (float& level : levels)
        level /= std::sqrt(power);
    return levels;
}

//! Why it cannot receive such slots; empty: it can.
std::string obstacle(classical_receiver::kind kind, int n_layers, int n_rx)
{
    if (n_rx < 1 || n_rx > most_antennas)
        return "n_rx must be 1 to 4, got " + std::to_string(n_rx);
    if (n_layers < 1 || n_layers > most_layers)
        return "a slot must have 1 or 2 layers, got " + std::to_string(n_layers);
    if (kind == classical_receiver::kind::gnb && n_layers > n_rx)
        return "zero forcing of two users needs 2 antennas or more, got " + std::to_string(n_rx);
    return "";
}

std::unique_ptr<channel_estimator> make_estimator(const pilot_layout& layout,
                                                  int n_rx,
                                                  classical_receiver::kind kind,
                                                  const equaliser_kernel& kernel)
{
    if (const auto why = obstacle(kind, layout.n_layers(), n_rx); !why.empty())
        throw std::invalid_argument(why);
    if (kind == classical_receiver::kind::gnb)
        return std::make_unique<gnb_estimator>(layout, n_rx);
    return std::make_unique<smoothing_estimator>(
        layout, n_rx, kind == classical_receiver::kind::sure_lmmse, kernel);
}

} // namespace

std::vector<std::string> classical_names_for(int n_layers, int n_rx)
{
    std::vector<std::string> names;
    for (const auto& name : classical_names())
        if (obstacle(classical_kind(name), n_layers, n_rx).empty())
            names.push_back(name);
    return names;
}

classical_receiver::classical_receiver(const pilot_layout& layout,
                                       int n_rx,
                                       kind k,
                                       const equaliser_kernel& kernel)
    : d_layout(layout), d_n_rx(n_rx), d_kernel(kernel),
      d_estimator(make_estimator(layout, n_rx, k, kernel))
{
    const bool gnb = k == kind::gnb;
    d_job.n_rx = n_rx;
    d_job.n_layers = layout.n_layers();
    d_job.n_subcarriers = layout.n_subcarriers;
    d_job.stride = d_estimator->estimate.stride();
    d_job.zero_forcing = d_job.max_log = gnb;
    for (const auto& layer : layout.layers) {
        d_levels.push_back(pam_levels(layer.bits / 2));
        d_job.llr_stride = std::max(d_job.llr_stride, layer.bits);
    }
    for (int layer = 0; layer < d_job.n_layers; layer++) {
        d_job.bits[layer] = layout.layers[layer].bits;
        d_job.levels[layer] = d_levels[layer].data();
        if (gnb) // the gNB's 8 bits end at 120
            d_job.llr_limit[layer] = d_job.bits[layer] == 2 ? 24.0f : 20.0f;
    }
}

void classical_receiver::receive(const float* grid, const float* pilots, float* llr)
{
    estimate(grid, pilots);
    const channel_estimate& channel = d_estimator->estimate;
    if (d_job.zero_forcing)
        copy_noise(d_job.noise);
    else
        invert_covariance();
    const int n_sc = d_layout.n_subcarriers, n_symbols = d_layout.n_symbols;
    for (int symbol = 0; symbol < n_symbols; symbol++) {
        for (int layer = 0; layer < d_job.n_layers; layer++)
            d_job.llr[layer] = llr + (layer * n_symbols + symbol) * n_sc * d_job.llr_stride;
        const bool dmrs = std::count(d_layout.dmrs.begin(), d_layout.dmrs.end(), symbol);
        if (dmrs && d_layout.cdm_groups == 2) {
            for (int layer = 0; layer < d_job.n_layers; layer++)
                std::fill_n(d_job.llr[layer], n_sc * d_job.llr_stride, 0.0f);
            continue;
        }
        const auto [before, after, weight] = channel.between(symbol);
        d_job.weight = weight;
        for (int antenna = 0; antenna < d_n_rx; antenna++) {
            d_job.received[antenna] = grid + 2 * (antenna * n_symbols + symbol) * n_sc;
            const auto back = std::conj(channel.turn(antenna, symbol));
            d_job.turn[antenna][0] = back.real();
            d_job.turn[antenna][1] = back.imag();
            for (int layer = 0; layer < d_job.n_layers; layer++) {
                d_job.before[layer][antenna] = channel.plane(layer, antenna, before);
                d_job.after[layer][antenna] = channel.plane(layer, antenna, after);
            }
        }
        const stage_clock::scope stage(
            d_estimator->clock, "equalise and demap", [this] { return cost_of(d_job); });
        d_kernel.equalise(d_job);
        if (dmrs) // on the first group's subcarriers, the even ones
            for (int layer = 0; layer < d_job.n_layers; layer++)
                for (int k = 0; k < n_sc; k += 2)
                    std::fill_n(d_job.llr[layer] + k * d_job.llr_stride, d_job.llr_stride, 0.0f);
    }
}

//! By Gauss and Jordan; loaded with 1e-6 of its mean power, so that it can be.
void classical_receiver::invert_covariance()
{
    auto matrix = d_estimator->estimate.covariance;
    decltype(matrix) inverse{};
    double power = 0.0;
    for (int r = 0; r < d_n_rx; r++)
        power += matrix[r][r].real() / d_n_rx;
    for (int r = 0; r < d_n_rx; r++) {
        matrix[r][r] += 1e-6 * power + 1e-30;
        inverse[r][r] = 1.0;
    }
    for (int column = 0; column < d_n_rx; column++) { // positive definite: no pivots
        const auto scale = 1.0 / matrix[column][column];
        for (int q = 0; q < d_n_rx; q++) {
            matrix[column][q] *= scale;
            inverse[column][q] *= scale;
        }
        for (int r = 0; r < d_n_rx; r++) {
            const auto factor = matrix[r][column];
            for (int q = 0; q < d_n_rx && r != column; q++) {
                matrix[r][q] -= factor * matrix[column][q];
                inverse[r][q] -= factor * inverse[column][q];
            }
        }
    }
    for (int r = 0; r < d_n_rx; r++)
        for (int q = 0; q < d_n_rx; q++) {
            d_job.inverse[r][q][0] = inverse[r][q].real();
            d_job.inverse[r][q][1] = inverse[r][q].imag();
        }
}

void classical_receiver::copy_channel(float* to) const
{
    const channel_estimate& channel = d_estimator->estimate;
    for (int layer = 0; layer < d_job.n_layers; layer++)
        for (int antenna = 0; antenna < d_n_rx; antenna++)
            for (int symbol = 0; symbol < d_layout.n_symbols; symbol++) {
                const auto [before, after, weight] = channel.between(symbol);
                const float* a = channel.plane(layer, antenna, before);
                const float* b = channel.plane(layer, antenna, after);
                const auto turn = channel.turn(antenna, symbol);
                for (int k = 0; k < d_layout.n_subcarriers; k++, to += 2) {
                    const int im = k + channel.stride();
                    const auto h =
                        turn * std::complex<float>((1 - weight) * a[k] + weight * b[k],
                                                   (1 - weight) * a[im] + weight * b[im]);
                    to[0] = h.real();
                    to[1] = h.imag();
                }
            }
}

void classical_receiver::copy_noise(float* to) const
{
    for (int antenna = 0; antenna < d_n_rx; antenna++)
        to[antenna] = d_estimator->estimate.covariance[antenna][antenna].real();
}

} // namespace gr::deeprx
