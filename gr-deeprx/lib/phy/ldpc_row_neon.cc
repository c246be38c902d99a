/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_row.h"

#include <arm_neon.h>

namespace gr::deeprx {

namespace {

struct neon {
    using bytes = uint8x16_t;
    using words = int16x8_t;

    static bytes load(const int8_t* p) { return vreinterpretq_u8_s8(vld1q_s8(p)); }
    static words load(const int16_t* p) { return vld1q_s16(p); }
    static void store(int8_t* p, bytes a) { vst1q_s8(p, vreinterpretq_s8_u8(a)); }
    static void store(int16_t* p, words a) { vst1q_s16(p, a); }
    static void widen(bytes a, words& low, words& high)
    {
        low = vmovl_s8(vget_low_s8(vreinterpretq_s8_u8(a)));
        high = vmovl_high_s8(vreinterpretq_s8_u8(a));
    }
    static bytes narrow(words low, words high)
    {
        return vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(low), high));
    }
    static bytes magnitude(bytes a)
    {
        return vreinterpretq_u8_s8(vqabsq_s8(vreinterpretq_s8_u8(a)));
    }
    static bytes min(bytes a, bytes b) { return vminq_u8(a, b); }
    static bytes max(bytes a, bytes b) { return vmaxq_u8(a, b); }
    static bytes halve(bytes a) { return vrshrq_n_u8(a, 1); }
    static bytes thirty_second(bytes a) { return vrshrq_n_u8(a, 5); }
    static bytes lookup(const uint8_t* table, bytes index)
    {
        return vqtbl1q_u8(vld1q_u8(table), index); // 0 past the table, as in its last entries
    }
    static bytes negate(bytes a, bytes sign)
    {
        const int8x16_t all = vshrq_n_s8(vreinterpretq_s8_u8(sign), 7);
        return vreinterpretq_u8_s8(vsubq_s8(veorq_s8(vreinterpretq_s8_u8(a), all), all));
    }
};

} // namespace

extern const ldpc_kernel ldpc_neon{ "NEON", update_row<neon> };

} // namespace gr::deeprx
