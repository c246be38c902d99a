/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "plane_sum.h"

#include <algorithm>
#include <cmath>
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

float bits_of(uint32_t bits)
{
    float number;
    std::memcpy(&number, &bits, sizeof(number));
    return number;
}

//! An output's largest weight as 127 steps; 0: it has none.
float step_of(const float* weights, int n)
{
    float largest = 0.0f;
    for (int i = 0; i < n; i++)
        largest = std::max(largest, std::abs(weights[i]));
    return largest / 127;
}

} // namespace

plane_sum::plane_sum(const layer& l, int pitch, int stride, int together)
    : d_inputs((l.inputs + together - 1) / together)
{
    constexpr int most_outputs = 6;          // of a tile; all have about as many
    const int whole = together == 2 ? 2 : 1; // outputs that stay together: kernels give pairs
    const int n_tiles = (l.outputs + most_outputs - 1) / most_outputs;
    const int n_groups = (l.outputs + whole - 1) / whole;
    const int area = l.height * l.width;
    for (int tile = 0; tile < n_tiles; tile++) {
        const int first = n_groups * tile / n_tiles * whole;
        const int n = std::min(n_groups * (tile + 1) / n_tiles * whole, l.outputs) - first;
        std::vector<int> offsets;
        std::vector<float> weights(n, 0.0f);
        if (!l.bias.empty())
            std::copy_n(l.bias.begin() + first, n, weights.begin());
        std::vector<float> steps;
        std::vector<int> starts(n);
        for (int o = first; together == 4 && o < first + n; o++)
            steps.push_back(step_of(&l.weights[o * l.inputs * area], l.inputs * area));
        std::vector<float> terms;
        for (int in = 0; in < l.inputs; in += together)
            for (int at = 0; at < area; at++) {
                std::vector<float> of_term;
                bool none = true;
                for (int o = 0; o < n; o++) {
                    float some[4]{};
                    for (int i = 0; i < std::min(together, l.inputs - in); i++) {
                        some[i] = l.weights[((first + o) * l.inputs + in + i) * area + at];
                        none = none && some[i] == 0.0f;
                    }
                    if (together == 1)
                        of_term.push_back(some[0]);
                    if (together == 2)
                        of_term.push_back(bits_of(bfloat16(some[1]) << 16 | bfloat16(some[0])));
                    if (together != 4)
                        continue;
                    uint32_t quad = 0;
                    for (int i = 0; i < 4 && steps[o] > 0.0f; i++) {
                        const auto weight = static_cast<int>(std::lrint(some[i] / steps[o]));
                        starts[o] -= 128 * weight;
                        quad |= (weight & 0xffu) << 8 * i;
                    }
                    of_term.push_back(bits_of(quad));
                }
                if (none)
                    continue;
                terms.insert(terms.end(), of_term.begin(), of_term.end());
                const int row = at / l.width - l.height / 2, column = at % l.width - l.width / 2;
                offsets.push_back(in / together * pitch + row * stride + column);
            }
        if (together == 4) {
            weights.insert(weights.end(), steps.begin(), steps.end());
            for (const int start : starts)
                weights.push_back(bits_of(start));
        }
        weights.insert(weights.end(), terms.begin(), terms.end());
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
