/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_row.h"

namespace gr::deeprx {

namespace {

//! What every processor has: the compiler makes vectors of it as it can.
struct any {
    typedef uint8_t bytes __attribute__((vector_size(16)));
    typedef int16_t words __attribute__((vector_size(16)));
    typedef int8_t signed_half __attribute__((vector_size(8)));

    template <class V, class T>
    static V read(const T* p)
    {
        V v;
        __builtin_memcpy(&v, p, sizeof(v));
        return v;
    }

    static bytes load(const int8_t* p) { return read<bytes>(p); }
    static words load(const int16_t* p) { return read<words>(p); }
    static void store(int8_t* p, bytes a) { __builtin_memcpy(p, &a, sizeof(a)); }
    static void store(int16_t* p, words a) { __builtin_memcpy(p, &a, sizeof(a)); }
    static void widen(bytes a, words& low, words& high)
    {
        const auto* halves = reinterpret_cast<const int8_t*>(&a);
        low = __builtin_convertvector(read<signed_half>(halves), words);
        high = __builtin_convertvector(read<signed_half>(halves + 8), words);
    }
    static bytes narrow(words low, words high)
    {
        const signed_half halves[]{ __builtin_convertvector(clamp(low), signed_half),
                                    __builtin_convertvector(clamp(high), signed_half) };
        return read<bytes>(halves);
    }
    static words clamp(words a)
    {
        a = a > 127 ? words{} + 127 : a;
        return a < -127 ? words{} - 127 : a;
    }
    static bytes magnitude(bytes a) { return negate(a, a); }
    static bytes min(bytes a, bytes b) { return a < b ? a : b; }
    static bytes max(bytes a, bytes b) { return a < b ? b : a; }
    static bytes halve(bytes a) { return (a >> 1) + (a & 1); }
    static bytes thirty_second(bytes a) { return (a + 16) >> 5; }
    static bytes lookup(const uint8_t* table, bytes index)
    {
        bytes value{}; // the table is known here, and falls in a few steps of 1
        for (uint8_t i = 0; i < 15; i++)
            if (table[i] != table[i + 1])
                value += (index <= i) & 1;
        return value;
    }
    static bytes negate(bytes a, bytes sign) { return sign > 127 ? -a : a; }
};

} // namespace

extern const ldpc_kernel ldpc_any{ "no vectors", update_row<any> };

} // namespace gr::deeprx
