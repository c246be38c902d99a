/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_row.h"

#include <immintrin.h>

namespace gr::deeprx {

namespace {

struct avx2 {
    typedef uint8_t bytes __attribute__((vector_size(32)));
    typedef int16_t words __attribute__((vector_size(32)));

    static __m256i raw(bytes a) { return reinterpret_cast<__m256i>(a); }
    static __m256i raw(words a) { return reinterpret_cast<__m256i>(a); }
    static bytes of(__m256i a) { return reinterpret_cast<bytes>(a); }

    static bytes load(const int8_t* p)
    {
        return of(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static words load(const int16_t* p)
    {
        return reinterpret_cast<words>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static void store(int8_t* p, bytes a)
    {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), raw(a));
    }
    static void store(int16_t* p, words a)
    {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), raw(a));
    }
    // Lanes of each half of a vector: messages are kept in the order in which narrow() puts them.
    static void widen(bytes a, words& low, words& high)
    {
        const __m256i sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), raw(a));
        low = reinterpret_cast<words>(_mm256_unpacklo_epi8(raw(a), sign));
        high = reinterpret_cast<words>(_mm256_unpackhi_epi8(raw(a), sign));
    }
    static bytes narrow(words low, words high)
    {
        return of(_mm256_packs_epi16(raw(low), raw(high)));
    }
    static bytes magnitude(bytes a) { return min(of(_mm256_abs_epi8(raw(a))), bytes{} + 127); }
    static bytes min(bytes a, bytes b) { return of(_mm256_min_epu8(raw(a), raw(b))); }
    static bytes max(bytes a, bytes b) { return of(_mm256_max_epu8(raw(a), raw(b))); }
    static bytes halve(bytes a) { return of(_mm256_avg_epu8(raw(a), _mm256_setzero_si256())); }
    static bytes thirty_second(bytes a) { return of(_mm256_srli_epi16(raw(a + 16), 5)) & 7; }
    static bytes lookup(const uint8_t* table, bytes index)
    {
        const __m256i both =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
        return of(_mm256_shuffle_epi8(both, raw(min(index, bytes{} + 15))));
    }
    static bytes negate(bytes a, bytes sign) { return of(_mm256_sign_epi8(raw(a), raw(sign | 1))); }
};

} // namespace

extern const ldpc_kernel ldpc_avx2{ "AVX2", update_row<avx2> };

} // namespace gr::deeprx
