/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "plane_sum.h"

#include <algorithm>
#include <cstring>

namespace gr::deeprx {

namespace {

//! The upper half of a float, rounded to the nearest, in its lower half.
uint32_t bfloat16(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

float pair(float low, float high)
{
    const uint32_t bits = bfloat16(high) << 16 | bfloat16(low);
    float both;
    std::memcpy(&both, &bits, sizeof(both));
    return both;
}

} // namespace

plane_sum::plane_sum(const layer& l, int pitch, int stride, bool of_pairs)
    : d_inputs(of_pairs ? (l.inputs + 1) / 2 : l.inputs)
{
    constexpr int most_outputs = 6; // of a tile; all have about as many
    const int together = of_pairs ? 2 : 1;
    const int n_tiles = (l.outputs + most_outputs - 1) / most_outputs;
    const int n_groups = (l.outputs + together - 1) / together;
    const int area = l.height * l.width;
    for (int tile = 0; tile < n_tiles; tile++) {
        const int first = n_groups * tile / n_tiles * together;
        const int n = std::min(n_groups * (tile + 1) / n_tiles * together, l.outputs) - first;
        std::vector<int> offsets;
        std::vector<float> weights(n, 0.0f);
        if (!l.bias.empty())
            std::copy_n(l.bias.begin() + first, n, weights.begin());
        for (int in = 0; in < l.inputs; in += together)
            for (int at = 0; at < area; at++) {
                std::vector<float> of_term;
                bool none = true;
                for (int o = first; o < first + n; o++) {
                    const float* weight = &l.weights[(o * l.inputs + in) * area + at];
                    const float next = of_pairs && in + 1 < l.inputs ? weight[area] : 0.0f;
                    of_term.push_back(of_pairs ? pair(*weight, next) : *weight);
                    none = none && *weight == 0.0f && next == 0.0f;
                }
                if (none)
                    continue;
                weights.insert(weights.end(), of_term.begin(), of_term.end());
                const int row = at / l.width - l.height / 2, column = at % l.width - l.width / 2;
                offsets.push_back(in / together * pitch + row * stride + column);
            }
        d_offsets.push_back(std::move(offsets));
        d_weights.push_back(std::move(weights));
        d_tiles.push_back({ n,
                            static_cast<int>(d_offsets.back().size()),
                            d_offsets.back().data(),
                            d_weights.back().data() });
    }
}

sum_job plane_sum::job(const float* from, float* to, int to_pitch, int n, const int32_t* mask) const
{
    sum_job job{};
    job.tiles = d_tiles.data();
    job.n_tiles = static_cast<int>(d_tiles.size());
    job.n = n;
    job.from = from;
    job.n_from = d_inputs;
    job.to = to;
    job.pitch = to_pitch;
    job.mask = mask;
    return job;
}

} // namespace gr::deeprx
