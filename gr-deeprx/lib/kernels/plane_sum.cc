/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "plane_sum.h"

#include <algorithm>

namespace gr::deeprx {

plane_sum::plane_sum(const layer& l, int pitch, int stride)
{
    constexpr int most_outputs = 6; // of a tile; all have about as many
    const int n_tiles = (l.outputs + most_outputs - 1) / most_outputs;
    const int area = l.height * l.width;
    for (int tile = 0; tile < n_tiles; tile++) {
        const int first = l.outputs * tile / n_tiles;
        const int n = l.outputs * (tile + 1) / n_tiles - first;
        std::vector<int> offsets;
        std::vector<float> weights(n, 0.0f);
        if (!l.bias.empty())
            std::copy_n(l.bias.begin() + first, n, weights.begin());
        for (int in = 0; in < l.inputs; in++)
            for (int at = 0; at < area; at++) {
                std::vector<float> of_term;
                for (int o = first; o < first + n; o++)
                    of_term.push_back(l.weights[(o * l.inputs + in) * area + at]);
                if (std::all_of(of_term.begin(), of_term.end(), [](float w) { return w == 0.0f; }))
                    continue;
                weights.insert(weights.end(), of_term.begin(), of_term.end());
                const int row = at / l.width - l.height / 2, column = at % l.width - l.width / 2;
                offsets.push_back(in * pitch + row * stride + column);
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
    job.to = to;
    job.pitch = to_pitch;
    job.mask = mask;
    return job;
}

} // namespace gr::deeprx
