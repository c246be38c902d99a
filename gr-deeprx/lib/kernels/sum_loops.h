/* SPDX-License-Identifier: GPL-3.0-or-later */

// Sums of planes, which are convolutions: through positions, some vectors at a time.

#pragma once

#include "pusch_kernel.h"
#include "vectors.h"

namespace gr::deeprx { namespace {

constexpr int tile_outputs = 6; // of a sum

//! How numbers of planes and weights become sums, and what becomes of these: float32.
struct plain_sums {
    static constexpr int tile_vectors = LANES == 16 ? 4 : 2;
    static constexpr int rows = 1; // before the terms' weights
    using total = vec;

    static vec start(const float* of, int) { return all(*of); }
    static vec input(vec x) { return x; }
    static vec weight(const float* of) { return all(*of); }
    static vec plus(vec sum, vec weight, vec x) { return sum + weight * x; }

    template <int n_outputs, int n_vectors>
    static void store_all(
        const sum_job& job, const sum_tile&, int first, int p, vec (&sum)[n_outputs][n_vectors])
    {
        // what to do is asked once, and where before anything is stored, which may be anything
        const auto each = [&sum](const auto& change) {
#pragma GCC unroll 8
            for (int o = 0; o < n_outputs; o++)
#pragma GCC unroll 8
                for (int v = 0; v < n_vectors; v++)
                    change(sum[o][v], o, v);
        };
        if (job.scale)
            each([scale = job.scale + first * job.scale_pitch + p, pitch = job.scale_pitch](
                     vec& x, int o, int v) { x *= load(scale + o * pitch + v * lanes); });
        if (job.more)
            each([more = job.more + first * job.more_pitch + p, pitch = job.more_pitch](
                     vec& x, int o, int v) { x += load(more + o * pitch + v * lanes); });
        if (job.relu)
            each([](vec& x, int, int) { x = larger(x, vec{}); });
        each([mask = job.mask + p, to = job.to + first * job.pitch + p, pitch = job.pitch](
                 vec& x, int o, int v) {
            store(to + o * pitch + v * lanes, masked(x, load(mask + v * lanes)));
        });
    }
};

template <typename sums, int n_outputs, int n_vectors>
inline void sum_tile_at(const sum_job& job, const sum_tile& tile, int first, int p)
{
    typename sums::total sum[n_outputs][n_vectors];
    const float* weights = tile.weights;
#pragma GCC unroll 8
    for (int o = 0; o < n_outputs; o++)
#pragma GCC unroll 8
        for (int v = 0; v < n_vectors; v++)
            sum[o][v] = sums::start(weights + o, n_outputs);
    weights += (sums::rows - 1) * n_outputs;
    const float* const from = job.from + p;
    for (int term = 0; term < tile.n_terms; term++) {
        const float* x = from + tile.offsets[term];
        weights += n_outputs;
        decltype(sums::input(vec{})) in[n_vectors];
#pragma GCC unroll 8
        for (int v = 0; v < n_vectors; v++)
            in[v] = sums::input(load(x + v * lanes));
#pragma GCC unroll 8
        for (int o = 0; o < n_outputs; o++) {
            const auto weight = sums::weight(weights + o);
#pragma GCC unroll 8
            for (int v = 0; v < n_vectors; v++)
                sum[o][v] = sums::plus(sum[o][v], weight, in[v]);
        }
    }
    sums::store_all(job, tile, first, p, sum);
}

template <typename sums, int n_vectors>
inline void sum_at(const sum_job& job, int p)
{
    int first = 0;
    for (int t = 0; t < job.n_tiles; t++) {
        const sum_tile& tile = job.tiles[t];
        switch (tile.n_outputs) {
        case 1:
            sum_tile_at<sums, 1, n_vectors>(job, tile, first, p);
            break;
        case 2:
            sum_tile_at<sums, 2, n_vectors>(job, tile, first, p);
            break;
        case 3:
            sum_tile_at<sums, 3, n_vectors>(job, tile, first, p);
            break;
        case 4:
            sum_tile_at<sums, 4, n_vectors>(job, tile, first, p);
            break;
        case 5:
            sum_tile_at<sums, 5, n_vectors>(job, tile, first, p);
            break;
        default:
            sum_tile_at<sums, tile_outputs, n_vectors>(job, tile, first, p);
        }
        first += tile.n_outputs;
    }
}

template <typename sums>
inline void sum_all(const sum_job& job)
{
    constexpr int tile_vectors = sums::tile_vectors;
    int p = 0;
    for (; p + (tile_vectors - 1) * lanes < job.n; p += tile_vectors * lanes)
        sum_at<sums, tile_vectors>(job, p);
    if (tile_vectors > 2 && p + lanes < job.n) {
        sum_at<sums, 2>(job, p);
        p += 2 * lanes;
    }
    if (p < job.n)
        sum_at<sums, 1>(job, p);
}

}} // namespace gr::deeprx
