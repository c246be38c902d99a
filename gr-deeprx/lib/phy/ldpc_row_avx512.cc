/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_row.h"

#include <immintrin.h>

namespace gr::deeprx {

namespace {

struct avx512 {
    typedef uint8_t bytes __attribute__((vector_size(64)));
    typedef int16_t words __attribute__((vector_size(64)));

    static __m512i raw(bytes a) { return reinterpret_cast<__m512i>(a); }
    static __m512i raw(words a) { return reinterpret_cast<__m512i>(a); }
    static bytes of(__m512i a) { return reinterpret_cast<bytes>(a); }

    static bytes load(const int8_t* p) { return of(_mm512_loadu_si512(p)); }
    static words load(const int16_t* p) { return reinterpret_cast<words>(_mm512_loadu_si512(p)); }
    static void store(int8_t* p, bytes a) { _mm512_storeu_si512(p, raw(a)); }
    static void store(int16_t* p, words a) { _mm512_storeu_si512(p, raw(a)); }
    // Lanes of each half of a vector: messages are kept in the order in which narrow() puts them.
    static void widen(bytes a, words& low, words& high)
    {
        const __m512i sign = _mm512_movm_epi8(_mm512_movepi8_mask(raw(a)));
        low = reinterpret_cast<words>(_mm512_unpacklo_epi8(raw(a), sign));
        high = reinterpret_cast<words>(_mm512_unpackhi_epi8(raw(a), sign));
    }
    static bytes narrow(words low, words high)
    {
        return of(_mm512_packs_epi16(raw(low), raw(high)));
    }
    static bytes magnitude(bytes a) { return min(of(_mm512_abs_epi8(raw(a))), bytes{} + 127); }
    static bytes min(bytes a, bytes b) { return of(_mm512_min_epu8(raw(a), raw(b))); }
    static bytes max(bytes a, bytes b) { return of(_mm512_max_epu8(raw(a), raw(b))); }
    static bytes halve(bytes a) { return of(_mm512_avg_epu8(raw(a), _mm512_setzero_si512())); }
    static bytes thirty_second(bytes a) { return of(_mm512_srli_epi16(raw(a + 16), 5)) & 7; }
    static bytes lookup(const uint8_t* table, bytes index)
    {
        const __m512i both =
            _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
        return of(_mm512_shuffle_epi8(both, raw(min(index, bytes{} + 15))));
    }
    static bytes negate(bytes a, bytes sign)
    {
        return of(_mm512_mask_sub_epi8(
            raw(a), _mm512_movepi8_mask(raw(sign)), _mm512_setzero_si512(), raw(a)));
    }
};

} // namespace

extern const ldpc_kernel ldpc_avx512{ "AVX-512", update_row<avx512> };

} // namespace gr::deeprx
