/* SPDX-License-Identifier: GPL-3.0-or-later */

// The kernel itself, for each processor's vectors V. This and what includes it use no library: a
// function compiled for one processor must not be what the linker takes for all.

#pragma once

#include "ldpc_lanes.h"

namespace gr::deeprx { namespace {

/*!
 * ln(1 + exp(-x)) of LLRs in eighths, x = 2i - 1/2 eighths. No two neighbours differ by more than
 * 1, so that box_plus cannot fall below 0.
 */
constexpr uint8_t correction[16]{ 6, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0 };

//! Magnitude of the LLR of a sum of two bits, from their magnitudes, 0 to 127: exact, where min-sum
//! takes the smaller.
template <class V>
inline typename V::bytes box_plus(typename V::bytes a, typename V::bytes b)
{
    const auto smaller = V::min(a, b);
    return smaller - (V::lookup(correction, V::halve(V::max(a, b) - smaller)) -
                      V::lookup(correction, V::halve(a + b)));
}

template <class V>
void update_row(const ldpc_edge* edges, int degree, int lifting_size)
{
    using bytes = typename V::bytes; // magnitudes
    using words = typename V::words; // half as many lanes
    constexpr int lanes = sizeof(bytes);
    words low[ldpc_most_edges], high[ldpc_most_edges];
    bytes signs[ldpc_most_edges], size[ldpc_most_edges], before[ldpc_most_edges];
    if (degree < 2)
        __builtin_unreachable();

    for (int z = 0; z < lifting_size; z += lanes) {
        bytes sign{};
        for (int e = 0; e < degree; e++) {
            int at = z + edges[e].ahead;
            at -= at < lifting_size ? 0 : lifting_size;
            words message_low, message_high;
            V::widen(V::load(edges[e].message + z), message_low, message_high);
            low[e] = V::load(edges[e].from + at) - message_low;
            high[e] = V::load(edges[e].from + at + lanes / 2) - message_high;
            signs[e] = V::narrow(low[e], high[e]);
            size[e] = V::magnitude(signs[e]);
            sign ^= signs[e];
        }
        // of each edge, the sum of all other bits: of those before it and those after it
        before[1] = size[0];
        for (int e = 1; e < degree - 1; e++)
            before[e + 1] = box_plus<V>(before[e], size[e]);
        bytes after = size[degree - 1];
        for (int e = degree - 1; e >= 0; e--) {
            bytes others = e ? before[e] : after;
            if (e > 0 && e < degree - 1) {
                others = box_plus<V>(others, after);
                after = box_plus<V>(after, size[e]);
            }
            // 31/32 of it: what comes round in loops is not news
            const bytes message = V::negate(others - V::thirty_second(others), sign ^ signs[e]);
            V::store(edges[e].message + z, message);
            words message_low, message_high;
            V::widen(message, message_low, message_high);
            V::store(edges[e].to + z, low[e] + message_low);
            V::store(edges[e].to + z + lanes / 2, high[e] + message_high);
        }
    }
    for (int e = 0; e < degree; e++) {
        int16_t* to = edges[e].to;
        if (lifting_size < lanes) // the start comes round more than once
            for (int z = 0; z < lanes; z++)
                to[lifting_size + z] = to[z];
        else
            for (int half = 0; half < lanes; half += lanes / 2)
                V::store(to + lifting_size + half, V::load(const_cast<const int16_t*>(to) + half));
    }
}

}} // namespace gr::deeprx
