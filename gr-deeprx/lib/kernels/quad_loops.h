/* SPDX-License-Identifier: GPL-3.0-or-later */

// Sums of planes of quads, whose products add up in int32.

#pragma once

#include "pusch_kernel.h"
#include "sum_loops.h"

namespace gr::deeprx { namespace {

struct sums_of_quads {
    static constexpr int tile_vectors = plain_sums::tile_vectors;
    static constexpr int rows = 3; // biases, steps, starts
    using total = ivec;

    static ivec weight(const float* of)
    {
        int32_t quad;
        __builtin_memcpy(&quad, of, sizeof(quad));
        return quad - ivec{};
    }
#if LANES == 16 // one factor must not be negative: 128 more, and what is too much at the start
    static ivec start(const float* of, int n_outputs) { return weight(of + 2 * n_outputs); }
    static ivec input(vec x) { return reinterpret_cast<ivec>(x) ^ static_cast<int>(0x80808080); }
    static ivec plus(ivec sum, ivec weight, ivec x)
    {
        return reinterpret_cast<ivec>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum),
                                                          reinterpret_cast<__m512i>(x),
                                                          reinterpret_cast<__m512i>(weight)));
    }
#else
    static ivec start(const float*, int) { return ivec{}; }
    static ivec input(vec x) { return reinterpret_cast<ivec>(x); }
#if LANES == 8 // one factor must not be negative, and sums of two products fit 16 bits
    static ivec plus(ivec sum, ivec weight, ivec x)
    {
        return plus(sum, reinterpret_cast<__m256i>(weight), reinterpret_cast<__m256i>(x));
    }
    static ivec plus(ivec sum, __m256i weight, __m256i size)
    {
        const auto of_two = _mm256_maddubs_epi16(size, weight);
        return sum + reinterpret_cast<ivec>(_mm256_madd_epi16(of_two, _mm256_set1_epi16(1)));
    }
#else
    static ivec plus(ivec sum, ivec weight, ivec x)
    {
        for (int up = 24; up >= 0; up -= 8)
            sum += ((x << up) >> 24) * ((weight << up) >> 24);
        return sum;
    }
#endif
#endif

    template <int n_outputs, int n_vectors>
    static void store_all(const sum_job& job,
                          const sum_tile& tile,
                          int first,
                          int p,
                          ivec (&sum)[n_outputs][n_vectors])
    {
        vec of_steps[n_outputs][n_vectors];
#pragma GCC unroll 8
        for (int o = 0; o < n_outputs; o++)
#pragma GCC unroll 8
            for (int v = 0; v < n_vectors; v++)
                of_steps[o][v] = __builtin_convertvector(sum[o][v], vec) *
                                     (tile.weights[n_outputs + o] * job.step) +
                                 tile.weights[o];
        plain_sums::store_all(job, tile, first, p, of_steps);
    }
};

#if LANES == 8
struct sums_of_signed_quads : sums_of_quads {
    static constexpr int tile_vectors = 1;
    struct with_size {
        __m256i x, size;
    };

    static with_size input(vec x)
    {
        const auto bytes = reinterpret_cast<__m256i>(x);
        return { bytes, _mm256_abs_epi8(bytes) };
    }
    static ivec plus(ivec sum, ivec weight, with_size in)
    {
        const auto flipped = _mm256_sign_epi8(reinterpret_cast<__m256i>(weight), in.x);
        return sums_of_quads::plus(sum, flipped, in.size);
    }
};
#else
using sums_of_signed_quads = sums_of_quads;
#endif

float pack(const float* from, int pitch, int count, int n, float* to, int to_pitch)
{
    vec sizes{};
    for (int i = 0; i < count; i++)
        for (int p = 0; p < n; p += lanes)
            sizes = larger(magnitude(load(from + i * pitch + p)), sizes);
    float largest = 1e-30f; // all may be 0
    for (int i = 0; i < lanes; i++)
        largest = sizes[i] > largest ? sizes[i] : largest;
    const vec steps = all(127.0f / largest);
    for (int i = 0; i < count; i += 4, from += 4 * pitch, to += to_pitch)
        for (int p = 0; p < n; p += lanes) {
            ivec quad{};
            for (int k = 0; k < 4 && i + k < count; k++) {
                const vec number = load(from + k * pitch + p) * steps + to_whole;
                quad |= (reinterpret_cast<ivec>(number) & 0xff) << 8 * k;
            }
            store(to + p, bits_of(quad));
        }
    return largest / 127.0f;
}

void sum(const sum_job& job)
{
    job.positive ? sum_all<sums_of_quads>(job) : sum_all<sums_of_signed_quads>(job);
}

}} // namespace gr::deeprx

#define QUAD_KERNEL(name)                                                                          \
    {                                                                                              \
        name, 4, pack, sum, nullptr                                                                \
    }
