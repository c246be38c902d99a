/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_kernel.h"
#include "sum_loops.h"

#include <immintrin.h>

namespace gr::deeprx {

namespace {

typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

//! Each number rounded to the nearest in bfloat16.
inline ivec rounded(vec x)
{
    const auto narrow = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(x));
    return __builtin_convertvector(reinterpret_cast<halves>(narrow), ivec);
}
inline ivec packed(vec low, vec high) { return rounded(low) | rounded(high) << 16; }
inline vec low_of(ivec pairs) { return bits_of(pairs << 16); }
inline vec high_of(ivec pairs) { return bits_of(pairs & ~0xffff); }
inline ivec load_pairs(const float* from) { return reinterpret_cast<ivec>(load(from)); }

struct sums_of_pairs : plain_sums {
    static __m512bh weight(const float* of)
    {
        int pair;
        __builtin_memcpy(&pair, of, sizeof(pair));
        return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
    }
    static vec plus(vec sum, __m512bh weight, vec x)
    {
        return reinterpret_cast<vec>(
            _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(x), weight));
    }
};

//! As pairs of neighbouring outputs, where job.more is pairs, too.
struct pairs_of_pairs : sums_of_pairs {
    template <int n_outputs, int n_vectors>
    static void store_all(
        const sum_job& job, const sum_tile&, int first, int p, vec (&sum)[n_outputs][n_vectors])
    {
#pragma GCC unroll 8
        for (int o = 0; o < n_outputs; o += 2)
#pragma GCC unroll 8
            for (int v = 0; v < n_vectors; v++) {
                const int plane = (first + o) / 2, at = p + v * lanes;
                vec low = sum[o][v], high = o + 1 < n_outputs ? sum[o + 1][v] : vec{};
                if (job.more) {
                    const ivec more = load_pairs(job.more + plane * job.more_pitch + at);
                    low += low_of(more);
                    high += high_of(more);
                }
                if (job.relu) {
                    low = larger(low, vec{});
                    high = larger(high, vec{});
                }
                store(job.to + plane * job.pitch + at,
                      bits_of(packed(low, high) & load(job.mask + at)));
            }
    }
};

float pack(const float* from, int pitch, int count, int n, float* to, int to_pitch)
{
    for (int i = 0; i < count; i += 2, from += 2 * pitch, to += to_pitch)
        for (int p = 0; p < n; p += lanes)
            store(to + p,
                  bits_of(packed(load(from + p), i + 1 < count ? load(from + pitch + p) : vec{})));
    return 1.0f;
}

void sum(const sum_job& job) { sum_all<sums_of_pairs>(job); }

void sum_to_pairs(const sum_job& job) { sum_all<pairs_of_pairs>(job); }

} // namespace

extern const packed_kernel pairs_avx512{ "AVX-512 BF16", 2, pack, sum, sum_to_pairs };

} // namespace gr::deeprx
