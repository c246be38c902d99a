/* SPDX-License-Identifier: GPL-3.0-or-later */

// Vectors of a processor, for each one's compiler options: LANES floats. This and what includes it
// use no library: a function compiled for one processor must not be what the linker takes for all.

#pragma once

#include <cstdint>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
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
//! 1 / x to 2e-7 of it, x normal and not above 1e37: a division takes longer.
inline vec inverse(vec x)
{
#if LANES == 16
    const vec guess = _mm512_maskz_rcp14_ps(0xffff, x);
#elif LANES == 8
    const vec guess = _mm256_rcp_ps(x);
#else
    return 1.0f / x;
#endif
#if LANES >= 8
    return guess * (2.0f - x * guess);
#endif
}
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
    // 2^f, its parts side by side: a processor waits for one result after the other
    const vec square = f * f;
    const vec power =
        (1.0f + 6.931469775e-1f * f) + square * ((2.402224214e-1f + 5.550734075e-2f * f) +
                                                 square * (9.671510655e-3f + 1.326461412e-3f * f));
    return bits_of(reinterpret_cast<ivec>(power) + (reinterpret_cast<ivec>(rounded) << 23));
}

//! exp(x) to 2e-7 of its value, for x between -87 and 87, and as at these limits beyond.
inline vec exponential(vec x) { return power_of_two(clamped(x * 1.44269504f, all(125.0f))); }

//! ln(x), x positive and normal, to 2e-7 of max(1, |ln(x)|).
inline vec logarithm(vec x)
{
    const ivec bits = reinterpret_cast<ivec>(x) - 0x3f3504f3; // above sqrt(1/2)
    const vec exponent = __builtin_convertvector(bits >> 23, vec);
    const vec m = bits_of((bits & 0x7fffff) + 0x3f3504f3) - 1.0f;
    const vec z = m * m;
    const vec p = (3.3334690908e-1f - 2.4980573978e-1f * m) +
                  z * ((1.9910238342e-1f - 1.7166906317e-1f * m) +
                       z * (1.6141188239e-1f - 1.0224223109e-1f * m));
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
