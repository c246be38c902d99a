/* SPDX-License-Identifier: GPL-3.0-or-later */

// Vectors of a processor, for each one's compiler options: LANES floats. This and what includes it
// use no library: a function compiled for one processor must not be what the linker takes for all.

#pragma once

#include <cstdint>
#include <utility>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#else
#define LANES 4
#endif

namespace gr::deeprx { namespace {

constexpr int lanes = LANES;
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef float loose_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t loose_ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline vec load(const float* from) { return *reinterpret_cast<const loose_vec*>(from); }
inline ivec load(const int32_t* from) { return *reinterpret_cast<const loose_ivec*>(from); }
inline void store(float* to, vec v) { *reinterpret_cast<loose_vec*>(to) = v; }
inline vec all(float x) { return x - vec{}; }
#if LANES == 8 // of what is below, GCC 12 makes two instructions, and of AVX-512's calls warnings
inline vec larger(vec a, vec b) { return _mm256_max_ps(a, b); }
inline vec smaller(vec a, vec b) { return _mm256_min_ps(a, b); }
#else
inline vec larger(vec a, vec b) { return a > b ? a : b; }
inline vec smaller(vec a, vec b) { return a < b ? a : b; }
#endif
inline vec clamped(vec x, vec limit) { return larger(smaller(x, limit), -limit); }
inline vec root(vec x)
{
    for (int i = 0; i < lanes; i++)
        x[i] = __builtin_sqrtf(x[i]);
    return x;
}
inline vec bits_of(ivec i) { return reinterpret_cast<vec>(i); }
//! x, or -x where the other is negative.
inline vec flipped(vec x, vec by)
{
    return bits_of(reinterpret_cast<ivec>(x) ^ (reinterpret_cast<ivec>(by) & ~0x7fffffff));
}
inline vec magnitude(vec x) { return bits_of(reinterpret_cast<ivec>(x) & 0x7fffffff); }
inline vec masked(vec x, ivec mask) { return bits_of(reinterpret_cast<ivec>(x) & mask); }
inline vec chosen(ivec mask, vec a, vec b)
{
    return bits_of((reinterpret_cast<ivec>(a) & mask) | (reinterpret_cast<ivec>(b) & ~mask));
}
inline float sum(vec v)
{
    float s = 0.0f;
    for (int i = 0; i < lanes; i++)
        s += v[i];
    return s;
}

constexpr float to_whole = 12582912.0f; // 1.5 * 2^23: what is added to it is rounded

inline vec nearest_whole(vec x) { return x + to_whole - to_whole; }

//! 2^x to 2e-7 of its value, for x between -125 and 125.
[[gnu::always_inline]] inline vec power_of_two(vec x)
{
    const vec rounded = x + to_whole, f = x - (rounded - to_whole);
    vec power = all(1.54035304e-4f); // 2^f
    power = power * f + 1.33335581e-3f;
    power = power * f + 9.61812911e-3f;
    power = power * f + 5.55041087e-2f;
    power = power * f + 2.40226507e-1f;
    power = power * f + 6.93147181e-1f;
    power = power * f + 1.0f;
    return bits_of(reinterpret_cast<ivec>(power) + (reinterpret_cast<ivec>(rounded) << 23));
}

//! exp(x) to 2e-7 of its value, for x between -87 and 87, and as at these limits beyond.
inline vec exponential(vec x) { return power_of_two(clamped(x * 1.44269504f, all(125.0f))); }

//! ln(x), x positive and normal, to 2e-7 of max(1, |ln(x)|): Cephes' logf.
inline vec logarithm(vec x)
{
    const ivec bits = reinterpret_cast<ivec>(x) - 0x3f3504f3; // above sqrt(1/2)
    const vec exponent = __builtin_convertvector(bits >> 23, vec);
    const vec m = bits_of((bits & 0x7fffff) + 0x3f3504f3) - 1.0f;
    const vec z = m * m;
    vec p = all(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return m + (z * (m * p) - 0.5f * z) + exponent * 0.693147181f;
}

template <int half, int... lane>
inline void exchange(vec (&rows)[lanes], std::integer_sequence<int, lane...> all_lanes)
{
#pragma GCC unroll 16
    for (int i = 0; i < lanes; i++)
        if (!(i & half)) {
            const vec a = rows[i], b = rows[i + half];
            rows[i] = __builtin_shufflevector(a, b, (lane & half ? lanes + lane - half : lane)...);
            rows[i + half] =
                __builtin_shufflevector(a, b, (lane & half ? lanes + lane : lane + half)...);
        }
    if constexpr (half > 1)
        exchange<half / 2>(rows, all_lanes);
}

//! rows[i][j] and rows[j][i] change places.
inline void transpose(vec (&rows)[lanes])
{
    exchange<lanes / 2>(rows, std::make_integer_sequence<int, lanes>());
}

}} // namespace gr::deeprx
