/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>

namespace gr::deeprx {

//! What one pass over the checks of a row reads and writes; all of an edge's lanes are contiguous.
struct ldpc_edge {
    const int16_t* from; // [lifting size, and again its start]: the column's sums, rotated
    int16_t* to;         // likewise: the sums as they become, in the order of the row's checks
    int8_t* message;     // to the column, from this row
    int ahead;           // place in `from` of the first check's bit
};

/*!
 * \brief One row of a layered decoder, in the vector instructions of one processor.
 *
 * Positive sums and messages mean 0. The vectors work on lanes past the last one, too: messages
 * need room for a multiple of ldpc_lanes, sums for one vector of lanes more.
 */
struct ldpc_kernel {
    const char* instructions;
    void (*update_row)(const ldpc_edge* edges, int degree, int lifting_size);
};

constexpr int ldpc_lanes = 64;      // of the widest vector
constexpr int ldpc_most_edges = 19; // of one row

} // namespace gr::deeprx
