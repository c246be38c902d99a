/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_receiver.h"

#include "avx2_only.h"
#include "side_by_side.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

#if defined(__x86_64__)
extern const pusch_kernel pusch_avx512, pusch_avx2;
extern const packed_kernel pairs_avx512, quads_avx512, quads_avx2;
#endif
extern const pusch_kernel pusch_any;
extern const packed_kernel quads_any;

namespace {

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512()
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && !avx2_only();
}
#endif

} // namespace

std::vector<const pusch_kernel*> pusch_kernels()
{
    std::vector<const pusch_kernel*> kernels;
#if defined(__x86_64__)
    if (has_avx512())
        kernels.push_back(&pusch_avx512);
    if (has_avx2())
        kernels.push_back(&pusch_avx2);
#endif
    kernels.push_back(&pusch_any);
    return kernels;
}

const packed_kernel* pusch_pairs()
{
#if defined(__x86_64__)
    if (has_avx512() && __builtin_cpu_supports("avx512bf16"))
        return &pairs_avx512;
#endif
    return nullptr;
}

std::vector<const packed_kernel*> pusch_quads()
{
    std::vector<const packed_kernel*> kernels;
#if defined(__x86_64__)
    if (has_avx512() && __builtin_cpu_supports("avx512vnni"))
        kernels.push_back(&quads_avx512);
    if (has_avx2())
        kernels.push_back(&quads_avx2);
#endif
    kernels.push_back(&quads_any);
    return kernels;
}

const packed_kernel* pusch_packed(const std::string& precision)
{
    if (precision == "bfloat16")
        return pusch_pairs();
#if defined(__x86_64__)
    const packed_kernel* const quads = pusch_quads().front(); // of vectors as wide as float32's
    if (precision == "int8" && has_avx2() && (quads == &quads_avx512 || !has_avx512()))
        return quads;
#endif
    return nullptr;
}

const pusch_kernel& pusch_receiver::best()
{
    static const pusch_kernel& kernel = *pusch_kernels().front();
    return kernel;
}

namespace {

constexpr int window_reach = 3;            // PRBs to both sides
constexpr int frequency_reach = 2;         // and of filters over frequency
constexpr int most_folded = 256;           // positions, so that folds stay in a second cache
constexpr int time_reach = 4 * most_lanes; // what kernels look at beyond a grid's ends, zeros

//! exp(j (first + i step)) of i < n
void phases(double first, double step, int n, float* re, float* im)
{
    std::complex<double> phase = std::polar(1.0, first);
    const auto turn = std::polar(1.0, step);
    for (int i = 0; i < n; i++) {
        re[i] = phase.real();
        im[i] = phase.imag();
        // not through operator*, which looks for NaN
        phase = { phase.real() * turn.real() - phase.imag() * turn.imag(),
                  phase.real() * turn.imag() + phase.imag() * turn.real() };
    }
}

//! Planes that hold so many packed twice, as pairs are, or as they are and as quads.
int held(int count, int together)
{
    return together < 4 ? count + count % 2 : count + (count + 3) / 4;
}

int32_t* bits_of(const planes& mask, int plane = 0)
{
    return reinterpret_cast<int32_t*>(mask[plane]);
}

std::vector<int> range(int first, int n)
{
    std::vector<int> all(n);
    for (int i = 0; i < n; i++)
        all[i] = first + i;
    return all;
}

//! A layer's bias where inputs from `first` on have these values everywhere.
std::vector<float> bias_with(const layer& l, int first, const std::vector<float>& values)
{
    auto bias = l.bias;
    for (int o = 0; o < l.outputs; o++)
        for (size_t i = 0; i < values.size(); i++)
            bias[o] += l.weight(o, first + i) * values[i];
    return bias;
}

//! A window's kernel without the pilots whose number in a pair is not this.
layer half_of(layer windows, int odd)
{
    for (size_t i = 0; i < windows.weights.size(); i++)
        if (static_cast<int>(i) / windows.width % 2 != odd)
            windows.weights[i] = 0.0f;
    return windows;
}

// what a round sees, in the order of the first layer's inputs
constexpr int n_seen_mean = 4, n_energy = 7, n_known = 9, n_about = n_known + pusch_net::n_known;
constexpr int n_hints = pusch_net::n_hints, n_judge_sees = n_hints + 5; // in planes
constexpr float little = 0.02f;

constexpr float local = 1.3f;     // of what is said of a PRB of a symbol, how much is right
constexpr float sure_of = 400.0f; // data REs
constexpr float spacings[]{ 0.0f, 0.70710678f, 0.31622777f, 0.15430335f, 0.07669650f };

int most_channels(const pusch_net& net)
{
    return std::max(net.numbers.channels, net.numbers.reliability_channels);
}

layer ones(int inputs, int height, int width)
{
    return {
        1, inputs, height, width, std::vector<float>(inputs * height * width, 1.0f), { 0.0f }
    };
}

} // namespace

pusch_receiver::sizes::sizes(const pilot_layout& layout, int n_rx)
    : layers(layout.n_layers()), antennas(n_rx), parts(2 * n_rx), symbols(layout.n_symbols),
      dmrs(layout.dmrs.size()), prb(layout.n_subcarriers / 12), pilots(layout.n_pilots()), bits{},
      stride(prb + frequency_reach), positions(symbols * stride),
      quads(std::max(std::min(most_folded / stride, (symbols + folded_rows - 1) / folded_rows), 1))
{
    if (n_rx < 1 || n_rx > most_antennas)
        throw std::invalid_argument("n_rx must be 1 to 4, got " + std::to_string(n_rx));
    if (layers < 1 || layers > most_layers)
        throw std::invalid_argument("a slot must have 1 or 2 layers, got " +
                                    std::to_string(layers));
    for (int l = 0; l < layers; l++)
        bits[l] = layout.layers[l].bits;
}

pusch_receiver::body::body(
    const residual_net& net, int outputs, int pitch, int stride, int folded, int planes)
    : together(planes), channels(net.first.outputs),
      last(net.last.first_outputs(outputs), pitch, stride, together)
{
    const auto lay_out = [=](const layer& l) {
        convolution sums;
        for (int fold = 0; folded && fold < n_folds; fold++)
            sums.emplace_back(l.of_fold(fold), folded, 0);
        if (!folded)
            sums.emplace_back(l, pitch, stride, planes);
        return sums;
    };
    for (const auto& [inner, outer] : net.blocks)
        blocks.emplace_back(lay_out(inner), lay_out(outer));
}

pusch_receiver::pusch_receiver(const pilot_layout& layout,
                               int n_rx,
                               const pusch_net& net,
                               const pusch_kernel& kernel,
                               const packed_kernel* packed)
    : d_kernel(kernel, packed), d_n(layout, n_rx), d_numbers(net.numbers),
      d_bank_size(net.n_bank()),
      d_n_steered(net.numbers.basis + 2 * net.numbers.filters + n_judge_sees),
      d_paired(layout.paired()), d_boost(layout.cdm_groups), d_dmrs(layout.dmrs), d_odd{},
      d_llr_stride(*std::max_element(d_n.bits, d_n.bits + d_n.layers)), d_prb_mask(1, d_n.prb),
      d_turn(24, d_n.prb), d_z(d_n.layers * n_rx * d_n.dmrs * 12, d_n.prb, window_reach),
      d_bank(d_n.layers * n_rx * d_n.dmrs * 2 * d_bank_size * 6, d_n.prb),
      d_about(d_n.layers * (pusch_net::n_pilot_features + 3), d_n.prb),
      d_pilot_first(net.n_plain * net.numbers.pilot_channels, d_n.prb),
      d_pilot_a(net.numbers.pilot_channels, d_n.prb, 1),
      d_pilot_b(net.numbers.pilot_channels, d_n.prb, 1),
      d_gates(net.n_modes * d_bank_size, d_n.prb), d_columns(net.numbers.channels, d_n.stride),
      d_shares(net.n_averaged - 1, d_n.prb),
      d_covariances(net.n_averaged * n_rx * n_rx, d_n.prb, net.averaged[2] / 2),
      d_left(net.n_interference_features, d_n.prb),
      d_left_a(net.numbers.interference_channels, d_n.prb, 1),
      d_left_b(net.numbers.interference_channels, d_n.prb, 1),
      d_left_weights(1 + net.n_averaged, d_n.prb), d_prb_white(n_rx * n_rx, d_n.stride),
      d_one(1, d_n.prb), d_mask(1, d_n.positions), d_data(12, d_n.positions, 1),
      d_y(24 * n_rx, d_n.positions, 1), d_h(24 * n_rx * d_n.layers, d_n.positions, 1),
      d_plain(24 * n_rx * d_n.layers, d_n.positions, 1),
      d_apart(d_n.layers == 2 ? 24 : 0, d_n.positions, 1),
      d_known(24 * d_n.layers, d_n.positions, 1), d_seen(n_seen * d_n.layers, d_n.positions),
      d_inner(net.numbers.basis * d_n.parts * d_n.layers, d_n.positions, frequency_reach),
      d_innovation(24 * n_rx * d_n.layers, d_n.positions, 1),
      d_first(most_channels(net), d_n.positions),
      d_a(net.numbers.channels, d_n.positions, d_n.stride + 1),
      d_b(held(net.numbers.channels, d_kernel.together()), d_n.positions, d_n.stride + 1),
      d_folded(packed ? 0 : n_folds * most_channels(net), d_n.quads * d_n.stride, 1),
      d_convolved(packed ? 0 : n_folds * most_channels(net), d_n.quads * d_n.stride, 1),
      d_steer(d_n_steered * d_n.layers, d_n.positions),
      d_filtered(net.numbers.filters, d_n.positions, time_reach),
      d_gated(2 * net.numbers.filters, d_n.positions), d_own_weight(1, d_n.positions),
      d_left_sums(n_rx * n_rx, d_n.positions, 1), d_noise_sums(n_rx * n_rx, d_n.positions, 1),
      d_interference(n_rx * n_rx, d_n.positions, 1),
      d_x(24 * d_n.layers, d_n.positions, d_n.stride + 1),
      d_log_sinr(12 * d_n.layers, d_n.positions, d_n.stride + 1),
      d_noise(d_n.layers, d_n.positions, d_n.stride + 1),
      d_judge_a(net.numbers.reliability_channels, d_n.positions, d_n.stride + 1),
      d_judge_b(held(net.numbers.reliability_channels, d_kernel.together()),
                d_n.positions,
                d_n.stride + 1),
      d_judged(net.n_judged * d_n.layers, d_n.positions), d_share_of_9(1, d_n.positions),
      d_data_of_9(1, d_n.positions), d_nothing(1, d_n.stride), d_whitened(false), d_calm(false),
      d_all_data(whole_vectors(d_n.positions) / most_lanes, 1),
      d_sum(ones(2 * net.numbers.filters, 1, 1), d_gated.pitch(), 0),
      d_sum_of_9(ones(1, 3, 3), d_noise.pitch(), d_n.stride),
      d_rows(d_n.layers * n_rx * d_n.dmrs * 2 * d_n.pilots), d_differences(n_rx * 2 * d_n.pilots),
      d_limit(0.0), d_step{}, d_white{}, d_colour{}, d_white_float{}
{
    lay_out_slot(layout);
    lay_out_windows(net);
    lay_out_pilot_net(net.pilot_net);
    for (auto& part : d_phases)
        part.resize(d_n.pilots);
    for (size_t i = 0; i < net.rounds.size(); i++)
        d_rounds.push_back(stage_of(net.rounds[i]));
    lay_out_reliability(net.reliability);
    std::vector<float> used(net.n_symbols);
    for (const int symbol : d_dmrs)
        used[symbol] = 1.0f;
    const auto list = std::find(net.dmrs_lists.begin(), net.dmrs_lists.end(), used);
    if (list == net.dmrs_lists.end()) {
        std::string symbols;
        for (const int symbol : d_dmrs)
            symbols += (symbols.empty() ? "" : ", ") + std::to_string(symbol);
        throw std::runtime_error("the net does not know DMRS on symbols " + symbols);
    }
    const auto& modes = net.modes[list - net.dmrs_lists.begin()];
    for (int m = 0; m < net.n_modes; m++)
        for (int s = 0; s < d_n.symbols; s++)
            for (int d = 0; d < d_n.dmrs; d++)
                d_modes.push_back(modes[(m * net.n_symbols + s) * net.most_dmrs + d]);
    for (int m = 0; m < net.n_fits; m++)
        for (const int symbol : d_dmrs)
            for (int d = 0; d < d_n.dmrs; d++)
                d_fits.push_back(modes[(m * net.n_symbols + symbol) * net.most_dmrs + d]);
}

void pusch_receiver::lay_out_slot(const pilot_layout& layout)
{
    for (int l = 0; l < d_n.layers; l++)
        d_odd[l] = layout.first_pilot(l);
    std::fill_n(bits_of(d_prb_mask), d_n.prb, -1);
    for (int a = 0; a < pusch_net::n_averaged - 1; a++)
        for (int n = 0, reach = pusch_net::averaged[a] / 2; n < d_n.prb; n++)
            d_shares[a][n] = 1.0f / (std::min(n + reach, d_n.prb - 1) - std::max(n - reach, 0) + 1);
    for (int s = 0; s < d_n.symbols; s++) {
        const int row = s * d_n.stride;
        std::fill_n(bits_of(d_mask) + row, d_n.prb, -1);
        const bool dmrs = std::count(d_dmrs.begin(), d_dmrs.end(), s);
        for (int j = 0; j < 12; j++) // beside one group's pilots, on the odd subcarriers
            if (!dmrs || (layout.cdm_groups == 1 && j % 2 == 1))
                std::fill_n(bits_of(d_data, j) + row, d_n.prb, -1);
        for (int p = row; dmrs && p < row + d_n.stride; p++)
            d_all_data[p / most_lanes] = 0;
    }
}

//! What is left of a window at an edge sums to 1; of paired layers' pilots the even and the odd
//! ones weigh the same, and a window over one pilot, which does not tell them apart, is over three.
void pusch_receiver::lay_out_windows(const pusch_net& net)
{
    layer windows = net.windows;
    if (d_paired) {
        const int window = 6 * windows.inputs * windows.width;
        std::copy_n(windows.weights.begin() + window, window, windows.weights.begin());
    }
    std::fill_n(d_one[0], d_n.prb, 1.0f);
    for (int half = 0; half < (d_paired ? 2 : 1); half++) {
        const layer part = d_paired ? half_of(windows, half) : windows;
        d_windows.emplace_back(part, d_z.pitch(), 0);
        d_edges.emplace_back(windows.outputs, d_n.prb);
        for (int o = 0; o < windows.outputs; o++)
            for (int n = 0; n < d_n.prb; n++) {
                float whole = 0.0f;
                for (int i = 0; i < 6; i++)
                    for (int k = 0; k < windows.width; k++)
                        if (const int at = n + k - windows.width / 2; at >= 0 && at < d_n.prb)
                            whole += part.weights[(o * 6 + i) * windows.width + k];
                d_edges.back()[o][n] = (d_paired ? 0.5f : 1.0f) / std::max(whole, 1e-9f);
            }
    }
    for (int w = 0; w < net.n_windows; w++) {
        double sum = 0.0;
        for (int i = 0; i < 6; i++)
            for (int n = 0; n < d_n.prb; n++)
                sum += d_edges[d_paired ? i % 2 : 0][6 * w + i][n];
        const float middle = windows.weights[6 * w * 6 * windows.width + windows.width / 2];
        d_own[w] = middle * sum / (6 * d_n.prb);
    }
    for (int part = 0; part < 2; part++)
        d_learned[part] = std::make_unique<plane_sum>(net.learned[part], d_z.pitch(), 0);
}

std::vector<float> pusch_receiver::slot_numbers() const
{
    return { d_n.dmrs / 4.0f,        d_n.antennas / 4.0f,
             d_n.symbols / 14.0f,    d_n.layers - 1.0f,
             d_paired ? 1.0f : 0.0f, 1.0f / d_n.prb,
             d_boost - 1.0f,         (d_dmrs.back() - d_dmrs.front()) / 14.0f };
}

void pusch_receiver::lay_out_pilot_net(const residual_net& net)
{
    constexpr int n_plain = pusch_net::n_plain, n_edges = n_plain + pusch_net::n_pilot_features;
    d_pilot_seen = std::make_unique<plane_sum>(
        net.first.of_inputs(range(n_plain, pusch_net::n_pilot_features)), d_about.pitch(), 0);
    d_pilot_net = std::make_unique<body>(net, net.last.outputs, d_pilot_a.pitch(), 0);
    const auto bias = bias_with(net.first, n_edges + 2, slot_numbers());
    for (int plain = 0; plain < n_plain; plain++) // one of them is 1
        for (int o = 0; o < net.first.outputs; o++)
            for (int n = 0; n < d_n.prb; n++) // and how near the edges are
                d_pilot_first[plain * net.first.outputs + o][n] =
                    bias[o] + net.first.weight(o, plain) + net.first.weight(o, n_edges) / (1 + n) +
                    net.first.weight(o, n_edges + 1) / (d_n.prb - n);
}

pusch_receiver::round_stage pusch_receiver::stage_of(const pusch_net::correction& round) const
{
    const layer& first = round.net.first;
    auto columns = range(n_about, pusch_net::n_pilot_features);
    columns.insert(columns.end(), { n_seen_mean, n_seen_mean + 1, n_seen_mean + 2 });
    constexpr int n_left = pusch_net::n_interference_features;
    layer left = round.interference.first.of_inputs(range(0, n_left));
    left.bias = bias_with(round.interference.first, n_left, slot_numbers());
    const int steered = d_numbers.basis + 2 * d_numbers.filters; // and hints, at the end
    round_stage stage{
        plane_sum(first.of_inputs({ 0, 1, 2, 3, n_energy, n_energy + 1 }), d_seen.pitch(), 0),
        plane_sum(first.of_inputs(columns), d_about.pitch(), 0),
        {},
        body(round.net,
             steered + n_hints,
             d_a.pitch(),
             d_n.stride,
             folded_pitch(),
             d_kernel.together()),
        {},
        plane_sum(round.over_frequency, d_inner.pitch(), 0),
        round.over_time.weights,
        plane_sum(round.back, d_gated.pitch(), 0),
        plane_sum(round.own(), d_steer.pitch(), 0),
        plane_sum(left, d_left.pitch(), 0),
        body(round.interference, round.interference.last.outputs, d_left_a.pitch(), 0),
    };
    for (int j = 0; j < 12; j++)
        for (int o = 0; o < d_numbers.basis; o++)
            stage.into.push_back(round.into.weight(o, j));
    for (int l = 0; l < d_n.layers; l++)
        stage.rows[l] = rows_of(first, n_known, l);
    return stage;
}

//! What a first layer's inputs from `known` on, known of symbols and slot, come to: [outputs]
//! [symbols], with the bias.
std::vector<float> pusch_receiver::rows_of(const layer& first, int known, int layer) const
{
    std::vector<float> rows;
    const auto bias = bias_with(first, known + 3, slot_numbers());
    for (int o = 0; o < first.outputs; o++)
        for (int s = 0; s < d_n.symbols; s++) {
            int away = d_n.symbols;
            for (const int symbol : d_dmrs)
                away = std::min(away, std::abs(symbol - s));
            rows.push_back(bias[o] + first.weight(o, known) * (away == 0 ? 1.0f : 0.0f) +
                           first.weight(o, known + 1) * 0.15f * away +
                           first.weight(o, known + 2) * d_n.bits[layer] / 8.0f);
        }
    return rows;
}

void pusch_receiver::lay_out_reliability(const residual_net& net)
{
    // inputs: hints; of the noise the whole, a symbol's, a PRB's, near; half the level, its
    // spread, half its mean, its distance from that
    constexpr int whole = n_hints, level = whole + pusch_net::n_shown;
    layer seen =
        net.first.of_inputs({ 0, 1, 2, 3, whole + 1, whole + 2, whole + 3, level, level + 1 });
    seen.bias.assign(net.first.outputs, 0.0f);
    for (int o = 0; o < net.first.outputs; o++) {
        const auto weight = [&](int i) { return net.first.weight(o, i); };
        seen.weights[o * n_judge_sees + n_hints + 3] = 0.5f * weight(level) + weight(level + 3);
        d_judge_whole.push_back(weight(whole));
        d_judge_mean.push_back(0.5f * weight(level + 2) - weight(level + 3));
    }
    d_judge_seen = std::make_unique<plane_sum>(seen, d_steer.pitch(), 0);
    d_judge = std::make_unique<body>(net,
                                     pusch_net::n_judged,
                                     d_judge_a.pitch(),
                                     d_n.stride,
                                     folded_pitch(),
                                     d_kernel.together());
    for (int l = 0; l < d_n.layers; l++)
        d_judge_rows[l] = rows_of(net.first, level + pusch_net::n_levels, l);
    d_rows_now.resize(net.first.outputs * d_n.symbols);
    for (int s = 0; s < d_n.symbols; s++) {
        int n = 0;
        for (int j = 0; j < 12; j++)
            n += bits_of(d_data, j)[s * d_n.stride] != 0;
        d_data_share.push_back(n / 12.0f);
    }
    for (int s = 0; s < d_n.symbols; s++) {
        const int from = std::max(s - 1, 0), to = std::min(s + 1, d_n.symbols - 1);
        float share = 0.0f;
        for (int q = from; q <= to; q++)
            share += d_data_share[q] / (to - from + 1);
        for (int n = 0; n < d_n.prb; n++) {
            const int wide = std::min(n + 1, d_n.prb - 1) - std::max(n - 1, 0) + 1;
            d_share_of_9[0][s * d_n.stride + n] = 1.0f / (wide * (to - from + 1));
            d_data_of_9[0][s * d_n.stride + n] = 1.0f / (share + little);
        }
    }
}

grid_view pusch_receiver::grid(const planes& channel) const
{
    return { d_n.antennas,
             d_n.layers,
             d_n.positions,
             d_y.pitch(),
             d_y[0],
             channel[0],
             d_apart[0],
             d_whitened ? d_interference[0] : nullptr,
             { d_n.bits[0], d_n.bits[1] } };
}

void pusch_receiver::receive(const float* grid_of_slot, const float* pilots, float* llr)
{
    estimate(grid_of_slot, pilots);
    d_whitened = d_calm = false;
    {
        const auto stage = d_kernel.stage("guard");
        know(pilots);
        const double n =
            d_n.antennas * d_n.dmrs * d_n.pilots * (d_odd[0] == d_odd[d_n.layers - 1] ? 1 : 2);
        d_limit = std::max(unexplained(d_plain), n) * 1.25 + 3 * std::sqrt(n);
        guard();
    }
    for (const auto& stage : d_rounds) {
        const auto timed = d_kernel.stage("round");
        correct(stage);
        guard();
        if (d_calm)
            break;
    }
    const auto stage = d_kernel.stage("reliability");
    judge(llr);
}

void pusch_receiver::estimate(const float* grid_of_slot, const float* pilots)
{
    {
        const auto stage = d_kernel.stage("pilots", [this] {
            return cost_of_pilots(d_n.layers, d_n.antennas, d_n.dmrs * d_n.pilots);
        });
        least_squares(grid_of_slot, pilots);
        turn_back();
        whiten();
    }
    const int n_sc = 12 * d_n.prb;
    front_job job{ d_n.antennas, d_n.prb,        {},      d_white_float,
                   d_turn[0],    d_turn.pitch(), nullptr, d_y.pitch() };
    for (int s = 0; s < d_n.symbols; s++) {
        for (int r = 0; r < d_n.antennas; r++)
            job.received[r] = grid_of_slot + 2 * size_t(r * d_n.symbols + s) * n_sc;
        job.to = d_y[0] + s * d_n.stride;
        d_kernel.front(job);
    }
    for (int l = 0; l < d_n.layers; l++)
        smooth(l);
    int plain = 0;
    for (int l = 0; l < d_n.layers; l++) {
        const auto stage = d_kernel.stage("gates");
        if (l == 0 || !d_paired)
            plain = best_window(l);
        see_pilots(l);
        steer_pilots(l, plain);
    }
}

void pusch_receiver::least_squares(const float* grid_of_slot, const float* pilots)
{
    const int n_sc = 12 * d_n.prb, n = d_n.pilots;
    const float scale = 1.0f / d_boost;
    float* re = d_rows.data();
    for (int l = 0; l < d_n.layers; l++)
        for (int r = 0; r < d_n.antennas; r++)
            for (const int symbol : d_dmrs) {
                const float* y =
                    grid_of_slot + 2 * (size_t(r * d_n.symbols + symbol) * n_sc + d_odd[l]);
                const float* p = pilots + 2 * (size_t(l * d_n.symbols + symbol) * n_sc + d_odd[l]);
                float* im = re + n;
                for (int i = 0; i < n; i++) {
                    re[i] = (y[4 * i] * p[4 * i] + y[4 * i + 1] * p[4 * i + 1]) * scale;
                    im[i] = (y[4 * i + 1] * p[4 * i] - y[4 * i] * p[4 * i + 1]) * scale;
                }
                re += 2 * n;
            }
}

//! By each layer's delay: its pilots, and the phases that turn grids back.
void pusch_receiver::turn_back()
{
    const int n = d_n.pilots, apart = d_paired ? 2 : 1, n_rows = d_n.antennas * d_n.dmrs;
    for (int l = 0; l < d_n.layers; l++) {
        float* const rows = &d_rows[size_t(l) * n_rows * 2 * n];
        double drift_re = 0.0, drift_im = 0.0;
        for (int row = 0; row < n_rows; row++) {
            const float *re = rows + row * 2 * n, *im = re + n;
            drift_re += sum_side_by_side(
                n - apart, [=](int i) { return re[i + apart] * re[i] + im[i + apart] * im[i]; });
            drift_im += sum_side_by_side(
                n - apart, [=](int i) { return im[i + apart] * re[i] - re[i + apart] * im[i]; });
        }
        d_step[l] = std::atan2(drift_im, drift_re) / (2 * apart);
        float *cos = d_phases[0].data(), *sin = d_phases[1].data();
        phases(d_step[l] * (d_odd[l] - 6 * d_n.prb), 2 * d_step[l], n, cos, sin);
        for (int row = 0; row < n_rows; row++) {
            float *re = rows + row * 2 * n, *im = re + n;
            for (int i = 0; i < n; i++) {
                const float z = re[i];
                re[i] = z * cos[i] + im[i] * sin[i];
                im[i] = im[i] * cos[i] - z * sin[i];
            }
        }
    }
    const auto lay_out = [&](double step, const planes& to) {
        for (int j = 0; j < 12; j++)
            phases(step * (j - 6 * d_n.prb), 12 * step, d_n.prb, to[j], to[12 + j]);
    };
    lay_out(-d_step[0], d_turn);
    if (d_n.layers == 2) {
        lay_out(d_step[1] - d_step[0], d_apart); // the first symbol's, and then all
        for (int plane = 0; plane < 24; plane++)
            for (int s = 1; s < d_n.symbols; s++)
                std::copy_n(d_apart[plane], d_n.prb, d_apart[plane] + s * d_n.stride);
    }
}

//! Of noise and interference, from second differences of pilots as PilotEstimate's, shrunk towards
//! white noise (OAS): the inverse of the Cholesky factor of their covariance.
void pusch_receiver::whiten()
{
    const int n = d_n.pilots, apart = d_paired ? 2 : 1, n_rx = d_n.antennas, n_dmrs = d_n.dmrs;
    const int n_layers = d_paired ? 1 : d_n.layers, n_differences = n - 2 * apart;
    matrix cov{};
    double level = 0.0;
    for (int l = 0; l < n_layers; l++)
        for (int d = 0; d < n_dmrs; d++) {
            for (int r = 0; r < n_rx; r++)
                for (int part = 0; part < 2; part++) {
                    const float* z = &d_rows[(size_t((l * n_rx + r) * n_dmrs + d) * 2 + part) * n];
                    float* e = &d_differences[(r * 2 + part) * n];
                    level += sum_side_by_side(n, [=](int i) { return z[i] * z[i]; });
                    for (int i = 0; i < n_differences; i++)
                        e[i] = z[i] - 2 * z[i + apart] + z[i + 2 * apart];
                }
            for (int r = 0; r < n_rx; r++)
                for (int q = 0; q <= r; q++) {
                    const float *a = &d_differences[2 * r * n], *b = &d_differences[2 * q * n];
                    cov[r][q] += std::complex<double>(
                        sum_side_by_side(n_differences,
                                         [=](int i) { return a[i] * b[i] + a[n + i] * b[n + i]; }),
                        sum_side_by_side(n_differences,
                                         [=](int i) { return a[n + i] * b[i] - a[i] * b[n + i]; }));
                }
        }
    const int n_samples = n_layers * n_dmrs * n_differences;
    const double scale = d_boost / (6.0 * n_samples);
    double trace = 0.0, square = 0.0;
    for (int r = 0; r < n_rx; r++)
        for (int q = 0; q <= r; q++) {
            cov[r][q] *= scale;
            square += (q < r ? 2.0 : 1.0) * std::norm(cov[r][q]);
            trace += q == r ? cov[r][r].real() : 0.0;
        }
    double keep = 1.0;
    if (n_rx > 1) {
        const double excess = std::max(square - trace * trace / n_rx, 1e-30);
        const double free = (n_samples * 18.0 / 35.0 + 1 - 2.0 / n_rx) * excess;
        const double ratio = ((1 - 2.0 / n_rx) * square + trace * trace) / free;
        keep = 1 - std::min(std::max(ratio, 0.0), 1.0);
    }
    level /= 2.0 * n_rx * n_layers * n_dmrs * n;
    const double least = 1e-6 * trace / n_rx + 1e-9 * level + 1e-20;
    for (int r = 0; r < n_rx; r++)
        for (int q = 0; q <= r; q++)
            cov[r][q] = keep * cov[r][q] + (q == r ? (1 - keep) * trace / n_rx + least : 0.0);
    // Cholesky's factor, and its inverse
    for (int r = 0; r < n_rx; r++)
        for (int q = 0; q <= r; q++) {
            auto sum = cov[r][q];
            for (int k = 0; k < q; k++)
                sum -= d_colour[r][k] * std::conj(d_colour[q][k]);
            d_colour[r][q] = q == r ? std::sqrt(sum.real()) : sum / d_colour[q][q].real();
        }
    for (int q = 0; q < n_rx; q++)
        for (int r = q; r < n_rx; r++) {
            std::complex<double> sum = r == q ? 1.0 : 0.0;
            for (int k = q; k < r; k++)
                sum -= d_colour[r][k] * d_white[k][q];
            d_white[r][q] = sum / d_colour[r][r].real();
            d_white_float[r][q][0] = d_white[r][q].real();
            d_white_float[r][q][1] = d_white[r][q].imag();
        }
}

//! A layer's pilots, whitened, under each window.
void pusch_receiver::smooth(int layer)
{
    const auto stage = d_kernel.stage(
        "windows", [this] { return cost_of_whitening(d_n.antennas, d_n.dmrs * d_n.pilots); });
    const int n_rx = d_n.antennas, n_dmrs = d_n.dmrs, n = d_n.pilots;
    for (int r = 0; r < n_rx; r++)
        for (int d = 0; d < n_dmrs; d++) {
            const int row = (layer * n_rx + r) * n_dmrs + d, z = row * 12;
            const float* from[most_antennas];
            for (int q = 0; q <= r; q++)
                from[q] = &d_rows[size_t((layer * n_rx + q) * n_dmrs + d) * 2 * n];
            for (int i = 0; i < 6; i++) {
                float *re = d_z[z + i], *im = d_z[z + 6 + i];
                for (int k = 0; k < d_n.prb; k++) {
                    re[k] = im[k] = 0.0f;
                    for (int q = 0; q <= r; q++) {
                        const float z_re = from[q][6 * k + i], z_im = from[q][n + 6 * k + i];
                        const float w_re = d_white_float[r][q][0], w_im = d_white_float[r][q][1];
                        re[k] += w_re * z_re - w_im * z_im;
                        im[k] += w_re * z_im + w_im * z_re;
                    }
                }
            }
            for (int part = 0; part < 2; part++) {
                float* to = d_bank[(row * 2 + part) * d_bank_size * 6];
                for (size_t half = 0; half < d_windows.size(); half++) {
                    auto job = d_windows[half].job(
                        d_z[z + part * 6], to, d_bank.pitch(), d_n.prb, bits_of(d_prb_mask));
                    job.scale = d_edges[half][0];
                    job.scale_pitch = d_edges[half].pitch();
                    if (half > 0) {
                        job.more = to;
                        job.more_pitch = d_bank.pitch();
                    }
                    d_kernel.sum(job);
                }
                d_kernel.sum(d_learned[part]->job(d_z[z],
                                                  to + 6 * pusch_net::n_windows * d_bank.pitch(),
                                                  d_bank.pitch(),
                                                  d_n.prb,
                                                  bits_of(d_prb_mask)));
            }
        }
}

//! The window, and the fit over time, that Stein's unbiased risk estimate finds best for a layer,
//! or for both of paired ones: SURE-LMMSE's.
int pusch_receiver::best_window(int layer) const
{
    leftover_job job{};
    job.n_rx = d_n.antennas;
    job.n_dmrs = d_n.dmrs;
    job.n_windows = pusch_net::n_windows;
    job.n_fits = pusch_net::n_fits;
    job.n_prb = d_n.prb;
    job.pilots = d_z[layer * d_n.parts * d_n.dmrs * 6];
    job.pilots_pitch = d_z.pitch();
    const int bank = d_n.parts * d_n.dmrs * d_bank_size * 6; // planes of a layer
    job.bank = d_bank[layer * bank];
    job.other = d_paired ? d_bank[bank] : nullptr;
    job.bank_pitch = d_bank.pitch();
    job.n_bank = 6 * d_bank_size;
    job.fits = d_fits.data();
    d_kernel.leftover(job);

    int best = 0;
    float least = HUGE_VALF;
    const float per_pilot = d_boost / (6 * d_n.antennas * d_n.dmrs * d_n.prb);
    for (int kind = 0; kind < job.n_fits; kind++) {
        float trace = 0.0f;
        for (int d = 0; d < d_n.dmrs; d++)
            trace += d_fits[(kind * d_n.dmrs + d) * d_n.dmrs + d] / d_n.dmrs;
        for (int w = 0; w < job.n_windows; w++) {
            const float own = (d_paired ? 2 : 1) * d_own[w];
            const float risk = job.left[kind][w] * per_pilot + 2 * trace * own;
            if (const float weighed = risk * (1 + 1e-4f * kind); weighed < least) {
                least = weighed;
                best = kind * job.n_windows + w;
            }
        }
    }
    return best;
}

//! What the pilots' net sees of each PRB.
void pusch_receiver::see_pilots(int layer)
{
    constexpr int n_features = pusch_net::n_pilot_features, half = n_features / 2;
    const int first = layer * (n_features + 3);
    const float* const bank = d_bank[layer * d_n.parts * d_n.dmrs * d_bank_size * 6];
    look_job job{};
    job.n_rx = d_n.antennas;
    job.n_dmrs = d_n.dmrs;
    job.n_windows = pusch_net::n_windows;
    job.n_prb = d_n.prb;
    job.bank = bank;
    job.bank_pitch = d_bank.pitch();
    job.n_bank = 6 * d_bank_size;
    job.pilots = d_paired ? bank : d_z[layer * d_n.parts * d_n.dmrs * 6];
    job.pilots_pitch = d_paired ? d_bank.pitch() : d_z.pitch();
    job.pilots_part = d_paired ? 6 * d_bank_size : 6;
    job.power = d_boost;
    job.to = d_about[first];
    job.to_pitch = d_about.pitch();
    d_kernel.look(job);
    for (int i = 0; i < half; i++) {
        float sum = 0.0f;
        for (int n = 0; n < d_n.prb; n++)
            sum += d_about[first + i][n];
        std::fill_n(d_about[first + half + i], d_n.prb, sum / d_n.prb);
    }
    for (int i = 0; i < n_features; i++)
        d_kernel.half_log(d_about[first + i], d_n.prb);
}

void pusch_receiver::run(const body& net,
                         const planes& a,
                         const planes& b,
                         const planes& out,
                         int out_first,
                         int n,
                         const int32_t* mask) const
{
    const auto stage = d_kernel.stage("net");
    const auto last = net.last.job(a[0], out[out_first], out.pitch(), n, mask);
    if (net.together == 2)
        return run_pairs(net, a, b, last);
    if (net.together == 4)
        return run_quads(net, a, b, last);
    for (const auto& [inner, outer] : net.blocks) {
        convolve(inner, net.channels, a, b, false, true, n, mask);
        const bool relu = &outer == &net.blocks.back().second; // the last layer's
        convolve(outer, net.channels, b, a, true, relu, n, mask);
    }
    d_kernel.sum(last);
}

//! \param add to what is there
void pusch_receiver::convolve(const convolution& by,
                              int channels,
                              const planes& from,
                              const planes& to,
                              bool add,
                              bool relu,
                              int n,
                              const int32_t* mask) const
{
    const float* const more = add ? to[0] : nullptr;
    if (by.size() == 1) {
        auto job = by[0].job(from[0], to[0], to.pitch(), n, mask);
        job.more = more;
        job.more_pitch = to.pitch();
        job.relu = relu;
        return d_kernel.sum(job);
    }
    const int pitch = d_folded.pitch(), rows = d_n.symbols, stride = d_n.stride;
    for (int first = 0; first < rows; first += d_n.quads * folded_rows) {
        const int left = (rows - first + folded_rows - 1) / folded_rows;
        const int quads = std::min(d_n.quads, left);
        d_kernel.fold({ channels,
                        stride,
                        rows,
                        first,
                        quads,
                        from[0],
                        from.pitch(),
                        d_nothing[0],
                        d_folded[0],
                        pitch });
        for (int fold = 0; fold < n_folds; fold++)
            d_kernel.sum(by[fold].job(d_folded[fold * channels],
                                      d_convolved[fold * channels],
                                      pitch,
                                      quads * stride,
                                      mask));
        d_kernel.unfold({ channels,
                          stride,
                          rows,
                          first,
                          quads,
                          d_convolved[0],
                          pitch,
                          to[0],
                          to.pitch(),
                          more,
                          to.pitch(),
                          relu,
                          mask });
    }
}

//! As run(): b, whose pitch is a's, holds what is computed, and beside it what a block computes.
void pusch_receiver::run_pairs(const body& net,
                               const planes& a,
                               const planes& b,
                               sum_job last) const
{
    float *const x = b[0], *const within = b[held(net.channels, 2) / 2];
    d_kernel.pack(a[0], a.pitch(), net.channels, last.n, x, b.pitch());
    for (const auto& [inner, outer] : net.blocks) {
        auto job = inner[0].job(x, within, b.pitch(), last.n, last.mask);
        job.relu = true;
        d_kernel.sum_to_pairs(job);
        job = outer[0].job(within, x, b.pitch(), last.n, last.mask);
        job.more = x;
        job.more_pitch = b.pitch();
        job.relu = &outer == &net.blocks.back().second; // the last layer's
        d_kernel.sum_to_pairs(job);
    }
    last.from = x;
    d_kernel.sum_packed(last);
}

//! As run(): what is added up stays float32, in a, and what a block computes first, in b; behind
//! that are the quads of what is multiplied.
void pusch_receiver::run_quads(const body& net,
                               const planes& a,
                               const planes& b,
                               sum_job last) const
{
    bool positive = true; // the first layer's
    const auto sum = [&](sum_job job, const planes& from) {
        float* const quads = b[net.channels];
        job.step = d_kernel.pack(from[0], from.pitch(), net.channels, job.n, quads, b.pitch());
        job.from = quads;
        job.positive = positive;
        positive = job.relu;
        d_kernel.sum_packed(job);
    };
    for (const auto& [inner, outer] : net.blocks) {
        auto job = inner[0].job(a[0], b[0], b.pitch(), last.n, last.mask);
        job.relu = true;
        sum(job, a);
        job = outer[0].job(b[0], a[0], a.pitch(), last.n, last.mask);
        job.more = a[0];
        job.more_pitch = a.pitch();
        job.relu = &outer == &net.blocks.back().second; // the last layer's
        sum(job, b);
    }
    sum(last, a);
}

//! The channel that a layer's pilots show: as the net has it, and as one window alone.
void pusch_receiver::steer_pilots(int layer, int plain)
{
    const int32_t* const mask = bits_of(d_prb_mask);
    const int about = layer * (pusch_net::n_pilot_features + 3);
    const int kind = plain / pusch_net::n_windows, window = plain % pusch_net::n_windows;
    auto first = d_pilot_seen->job(d_about[about], d_pilot_a[0], d_pilot_a.pitch(), d_n.prb, mask);
    first.more = d_pilot_first[plain * d_numbers.pilot_channels];
    first.more_pitch = d_pilot_first.pitch();
    first.relu = true;
    d_kernel.sum(first);
    run(*d_pilot_net, d_pilot_a, d_pilot_b, d_gates, 0, d_n.prb, mask);
    float* const gate = d_gates[kind * d_bank_size + window];
    for (int n = 0; n < d_n.prb; n++)
        gate[n] += 1.0f;
    mix(layer, d_gates[0], 0, pusch_net::n_modes, 0, d_bank_size, d_h);
    mix(layer, d_one[0], kind, 1, window, 1, d_plain);
}

void pusch_receiver::mix(int layer,
                         const float* gates,
                         int mode,
                         int n_modes,
                         int window,
                         int n_windows,
                         const planes& to)
{
    d_kernel.mix({ d_n.antennas,
                   d_n.dmrs,
                   n_modes,
                   n_windows,
                   d_n.symbols,
                   d_n.prb,
                   d_bank[(layer * d_n.parts * d_n.dmrs * d_bank_size + window) * 6],
                   d_bank.pitch(),
                   6 * d_bank_size,
                   gates,
                   d_gates.pitch(),
                   &d_modes[mode * d_n.symbols * d_n.dmrs],
                   d_odd[layer],
                   to[layer * 12 * d_n.parts],
                   to.pitch(),
                   d_n.stride });
}

//! What a channel leaves of all pilots: the sum of squares.
double pusch_receiver::unexplained(const planes& channel) const
{
    const bool both = d_odd[0] != d_odd[d_n.layers - 1];
    double sum = 0.0;
    for (const int symbol : d_dmrs)
        sum += d_kernel.unexplained(grid(channel),
                                    d_known[0],
                                    symbol * d_n.stride,
                                    d_n.prb,
                                    both ? 0 : d_odd[0],
                                    both ? 1 : 2,
                                    bits_of(d_prb_mask));
    return sum;
}

//! A channel that pilots do not support gives way to what one window shows.
void pusch_receiver::guard()
{
    if (!(unexplained(d_h) <= d_limit))
        std::copy_n(d_plain[0], 12 * d_n.parts * d_n.layers * d_plain.pitch(), d_h[0]);
}

void pusch_receiver::know(const float* pilots)
{
    for (int l = 0; l < d_n.layers; l++)
        for (const int symbol : d_dmrs)
            for (int i = 0; i < 6; i++) {
                const int j = 2 * i + d_odd[l], row = symbol * d_n.stride;
                const float* from =
                    pilots + 2 * (size_t(l * d_n.symbols + symbol) * 12 * d_n.prb + j);
                float *re = d_known[24 * l + j] + row, *im = d_known[24 * l + 12 + j] + row;
                for (int n = 0; n < d_n.prb; n++) {
                    re[n] = from[24 * n];
                    im[n] = from[24 * n + 1];
                }
            }
}

//! A round: what decided symbols say about the channel.
void pusch_receiver::correct(const round_stage& stage)
{
    constexpr int n_features = pusch_net::n_pilot_features;
    const int n = d_n.positions, basis = d_numbers.basis, n_filters = d_numbers.filters;
    const int32_t* const mask = bits_of(d_mask);
    round_job job{ grid(d_h),
                   d_known[0],
                   bits_of(d_data),
                   d_all_data.data(),
                   mask,
                   stage.into.data(),
                   basis,
                   d_inner[0],
                   d_inner.pitch(),
                   d_innovation[0],
                   d_seen[0],
                   d_seen.pitch(),
                   d_left_sums[0],
                   &stage == &d_rounds.front() ? d_noise_sums[0] : nullptr,
                   {} };
    d_kernel.round(job);
    d_calm = job.noise && is_calm();
    if (!d_calm)
        whiten_interference(stage);
    for (int l = 0; l < d_n.layers; l++) {
        const int about = l * (n_features + 3);
        for (int i = 0; i < 3; i++) {
            const float mean = job.sums[l][i] / (d_n.symbols * d_n.prb);
            std::fill_n(d_about[about + n_features + i], d_n.prb, 0.5f * std::log(mean + 0.01f));
        }
        d_kernel.sum(stage.columns.job(
            d_about[about], d_columns[0], d_columns.pitch(), d_n.prb, bits_of(d_prb_mask)));
        d_kernel.spread(stage.rows[l].data(),
                        d_columns[0],
                        d_columns.pitch(),
                        d_numbers.channels,
                        d_n.symbols,
                        d_n.stride,
                        d_first[0],
                        d_first.pitch());
        auto first = stage.seen.job(d_seen[l * n_seen], d_a[0], d_a.pitch(), n, mask);
        first.more = d_first[0];
        first.more_pitch = d_first.pitch();
        first.relu = true;
        d_kernel.sum(first);
        const int steer = l * d_n_steered;
        run(stage.net, d_a, d_b, d_steer, steer, n, mask);
        auto own = stage.own.job(d_steer[steer], d_gated[0], d_gated.pitch(), n, mask);
        own.scale = d_steer[steer + basis];
        own.scale_pitch = d_steer.pitch();
        d_kernel.sum(own);
        d_kernel.sum(d_sum.job(d_gated[0], d_own_weight[0], d_own_weight.pitch(), n, mask));
        for (int c = 0; c < d_n.parts; c++) {
            float* const inner = d_inner[(l * d_n.parts + c) * basis];
            d_kernel.steer(inner, d_inner.pitch(), d_steer[steer], d_steer.pitch(), basis, n);
            d_kernel.sum(
                stage.over_frequency.job(inner, d_filtered[0], d_filtered.pitch(), n, mask));
            d_kernel.time({ n_filters,
                            13,
                            d_n.symbols,
                            d_n.stride,
                            d_filtered[0],
                            stage.taps.data(),
                            d_steer[steer + basis],
                            d_gated[0],
                            d_filtered.pitch(),
                            d_steer.pitch(),
                            d_gated.pitch() });
            float* const h = d_h[(l * d_n.parts + c) * 12];
            auto back = stage.back.job(d_gated[0], h, d_h.pitch(), n, mask);
            back.more = h;
            back.more_pitch = d_h.pitch();
            d_kernel.sum(back);
            const float* const of = d_innovation[(l * d_n.parts + c) * 12];
            d_kernel.subtract(h, of, d_h.pitch(), d_own_weight[0], 12, n);
        }
    }
}

//! Whether noise alone explains what decided symbols leave: no interference, and nothing of the
//! channel that another round would find. Noise alone lets covariances of PRBs vary by their
//! trace's square over the REs behind them.
bool pusch_receiver::is_calm()
{
    const int n_rx = d_n.antennas, n = d_n.prb;
    double varies = 0.0, trace = 0.0;
    for (int r = 0, i = 0; r < n_rx; r++)
        for (; i < (r + 1) * (r + 1); i++) {
            float* const of_prb = d_covariances[i];
            std::copy_n(d_noise_sums[i], n, of_prb);
            for (int s = 1; s < d_n.symbols; s++)
                for (int k = 0; k < n; k++)
                    of_prb[k] += d_noise_sums[i][s * d_n.stride + k];
            const double mean = std::accumulate(of_prb, of_prb + n, 0.0) / n;
            const bool diagonal = i == (r + 1) * (r + 1) - 1;
            for (int k = 0; k < n; k++)
                varies += (diagonal ? 1 : 2) * (of_prb[k] - mean) * (of_prb[k] - mean);
            trace += diagonal ? mean : 0.0;
        }
    varies /= std::max(n - 1, 1);
    return varies < (1 + 1.0 / n_rx - 5.0 / n) * trace * trace / (12 * d_n.symbols);
}

//! Each PRB's noise and interference, from now on.
void pusch_receiver::whiten_interference(const round_stage& stage)
{
    const auto timed = d_kernel.stage("noise");
    const int n_rx = d_n.antennas, n = d_n.prb;
    const int32_t* const mask = bits_of(d_prb_mask);
    d_kernel.interference({ n_rx,
                            d_n.symbols,
                            n,
                            d_n.stride,
                            d_left_sums[0],
                            d_left_sums.pitch(),
                            d_shares[0],
                            d_shares.pitch(),
                            d_covariances[0],
                            d_covariances.pitch(),
                            d_left[0],
                            d_left.pitch() });
    auto first = stage.interference_seen.job(d_left[0], d_left_a[0], d_left_a.pitch(), n, mask);
    first.relu = true;
    d_kernel.sum(first);
    run(stage.interference, d_left_a, d_left_b, d_left_weights, 0, n, mask);
    d_kernel.whitener({ n_rx,
                        n,
                        d_left_weights[0],
                        d_left_weights.pitch(),
                        d_covariances[0],
                        d_covariances.pitch(),
                        d_prb_white[0],
                        d_prb_white.pitch() });
    d_kernel.spread(nullptr,
                    d_prb_white[0],
                    d_prb_white.pitch(),
                    n_rx * n_rx,
                    d_n.symbols,
                    d_n.stride,
                    d_interference[0],
                    d_interference.pitch());
    d_whitened = true;
}

//! How noisy the last symbols are, and their LLRs.
void pusch_receiver::judge(float* llr)
{
    const int n = d_n.positions, n_prb = d_n.prb, pitch = d_steer.pitch();
    const int32_t* const mask = bits_of(d_mask);
    const auto excess_of = [](float noise, float data) {
        return std::log(std::max((noise + little) / (data + little), little));
    };
    llr_job llrs{ d_n.layers,
                  n,
                  { d_n.bits[0], d_n.bits[1] },
                  bits_of(d_data),
                  d_data.pitch(),
                  d_all_data.data(),
                  mask,
                  d_x[0],
                  d_log_sinr[0],
                  d_x.pitch(),
                  {},
                  {},
                  {},
                  d_judged.pitch(),
                  d_n.symbols,
                  n_prb,
                  d_n.stride,
                  llr,
                  d_llr_stride,
                  {},
                  {},
                  {},
                  {} };
    symbols_job symbols{ grid(d_h),     bits_of(d_data), d_all_data.data(), mask, d_x[0],
                         d_log_sinr[0], d_noise[0],      d_x.pitch(),       {},   pitch };
    const auto seen = [&](int layer, int i) {
        return d_steer[(layer + 1) * d_n_steered - n_judge_sees + i];
    };
    for (int l = 0; l < d_n.layers; l++)
        symbols.level[l] = seen(l, n_hints + 3);
    d_kernel.symbols(symbols);

    const float all_data =
        std::accumulate(d_data_share.begin(), d_data_share.end(), 0.0f) / d_n.symbols;
    for (int l = 0; l < d_n.layers; l++) {
        const float *const noise = d_noise[l], *const level = seen(l, n_hints + 3);
        float *const of_symbols = seen(l, n_hints), *const of_prbs = seen(l, n_hints + 1),
                     *const near = seen(l, n_hints + 2);
        float of_slot = 0.0f, mean = 0.0f;
        for (int p = 0; p < n; p++) {
            of_slot += noise[p];
            mean += level[p];
        }
        mean /= d_n.symbols * n_prb;
        const float whole = excess_of(of_slot / (d_n.symbols * n_prb), all_data);
        for (int s = 0; s < d_n.symbols; s++) {
            const int row = s * d_n.stride;
            const float sum = std::accumulate(noise + row, noise + row + n_prb, 0.0f);
            std::fill_n(of_symbols + row, n_prb, excess_of(sum / n_prb, d_data_share[s]) - whole);
        }
        for (int k = 0; k < n_prb; k++) {
            float sum = 0.0f;
            for (int s = 0; s < d_n.symbols; s++)
                sum += noise[s * d_n.stride + k];
            of_prbs[k] = excess_of(sum / d_n.symbols, all_data) - whole;
        }
        for (int s = 1; s < d_n.symbols; s++)
            std::copy_n(of_prbs, n_prb, of_prbs + s * d_n.stride);
        auto around = d_sum_of_9.job(noise, near, pitch, n, mask);
        around.scale = d_share_of_9[0];
        d_kernel.sum(around);
        d_kernel.excess({ near, d_data_of_9[0], whole, mask, n });

        const int channels = d_numbers.reliability_channels;
        for (int o = 0; o < channels; o++)
            for (int s = 0; s < d_n.symbols; s++)
                d_rows_now[o * d_n.symbols + s] = d_judge_rows[l][o * d_n.symbols + s] +
                                                  d_judge_whole[o] * whole + d_judge_mean[o] * mean;
        d_kernel.spread(d_rows_now.data(),
                        d_nothing[0],
                        0,
                        channels,
                        d_n.symbols,
                        d_n.stride,
                        d_first[0],
                        d_first.pitch());
        auto first = d_judge_seen->job(seen(l, 0), d_judge_a[0], d_judge_a.pitch(), n, mask);
        first.more = d_first[0];
        first.more_pitch = d_first.pitch();
        first.relu = true;
        d_kernel.sum(first);
        const int judged = l * pusch_net::n_judged;
        run(*d_judge, d_judge_a, d_judge_b, d_judged, judged, n, mask);
        shrink(d_judged[judged], whole, of_symbols);
        llrs.factor[l] = of_symbols;
        llrs.level[l] = level;
        llrs.judged[l] = d_judged[judged + 5];
    }
    d_kernel.llrs(llrs);

    // one more expectation step; at a low SINR errors of the channel shrink symbols, which show
    // less noise than they have
    const float n_data = 12 * n_prb * d_n.symbols * all_data;
    const float power = (d_n.layers == 1 ? 1.5f : 0.5f) * n_data / (n_data + sure_of);
    for (int l = 0; l < d_n.layers; l++) {
        const float spacing = spacings[d_n.bits[l] / 2];
        const float level = llrs.sinr[l] / n_data * spacing * spacing;
        const float share = 1 / (1 + std::pow(level / 1.3f, 8.0f));
        const float least = 1e-9f * n_data;
        const float scale = (llrs.along[l] + least) / (llrs.energy[l] + least);
        const float trust = std::pow(std::pow(std::max(scale, little), share) /
                                         std::max(llrs.noise[l] / n_data, little),
                                     power);
        const size_t size = size_t(d_n.symbols) * 12 * n_prb * d_llr_stride;
        for (float *to = llr + l * size, *end = to + size; to < end; to++)
            *to *= trust;
    }
}

//! The logarithm of a factor on a layer's SINR, of what symbols show: its mean over data, and as
//! much of what differs from it as is not explained by what few REs show by chance of a symbol, of
//! a PRB and of nine PRBs of symbols. In excess's first plane.
void pusch_receiver::shrink(const float* judged, float whole, float* excess) const
{
    const int pitch = d_judged.pitch(), n_prb = d_n.prb;
    for (int p = 0; p < d_n.positions; p++) {
        float factor = judged[p] * whole + judged[4 * pitch + p];
        for (int i = 0; i < 3; i++)
            factor += judged[(1 + i) * pitch + p] * excess[i * d_steer.pitch() + p];
        excess[p] = factor;
    }
    float mean = 0.0f, variance = 0.0f, all_data = 0.0f;
    for (int s = 0; s < d_n.symbols; s++) {
        const float* const row = excess + s * d_n.stride;
        mean += d_data_share[s] * std::accumulate(row, row + n_prb, 0.0f);
        all_data += d_data_share[s];
    }
    mean /= all_data * n_prb;
    for (int s = 0; s < d_n.symbols; s++)
        for (int k = 0; k < n_prb; k++) {
            const float apart = excess[s * d_n.stride + k] - mean;
            variance += d_data_share[s] * apart * apart;
        }
    variance /= all_data * n_prb;
    const float chance =
        (1.0f / d_n.symbols + 1.0f / n_prb + 1.0f / 9) * d_n.symbols / (12 * all_data);
    const float keep = local * std::max(1 - chance / std::max(variance, 1e-9f), 0.0f);
    for (int p = 0; p < d_n.positions; p++)
        excess[p] = mean + keep * (excess[p] - mean);
}

void pusch_receiver::copy_channel(float* to) const
{
    for (int l = 0; l < d_n.layers; l++)
        for (int r = 0; r < d_n.antennas; r++)
            for (int s = 0; s < d_n.symbols; s++)
                for (int k = 0; k < 12 * d_n.prb; k++, to += 2) {
                    const int at = s * d_n.stride + k / 12, j = k % 12;
                    std::complex<double> h = 0.0;
                    for (int q = 0; q <= r; q++) {
                        const int plane = (l * d_n.antennas + q) * 24 + j;
                        h += d_colour[r][q] *
                             std::complex<double>(d_h[plane][at], d_h[plane + 12][at]);
                    }
                    h *= std::polar(1.0, d_step[l] * (k - 6 * d_n.prb));
                    to[0] = h.real();
                    to[1] = h.imag();
                }
}

void pusch_receiver::copy_noise(float* to) const
{
    for (int r = 0; r < d_n.antennas; r++) {
        to[r] = 0.0f;
        for (int q = 0; q <= r; q++)
            to[r] += std::norm(d_colour[r][q]);
    }
}

} // namespace gr::deeprx
