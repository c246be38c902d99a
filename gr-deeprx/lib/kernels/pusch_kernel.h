/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>

namespace gr::deeprx {

constexpr int most_lanes = 16; // of any kernel's vectors, and what position 0 is aligned to

/*
 * A plane holds one number of each position: a PRB of a symbol, or a PRB. Complex grids are planes
 * [..][2][12]: of real and imaginary parts, one of each of a PRB's subcarriers. `pitch` is what
 * lies between the beginnings of two planes.
 */

//! Some outputs of a convolution: sums of the same shifted planes.
struct sum_tile {
    int n_outputs, n_terms;
    const int* offsets;   // [n_terms], of what is added, from a position of the first plane
    const float* weights; // [1 + n_terms][n_outputs], the biases first; packed ones: plane_sum
};

//! to = mask & act(scale sum + more), each a plane an output.
struct sum_job {
    const sum_tile* tiles;
    int n_tiles, n; // positions
    const float* from;
    int n_from; // planes
    float* to;
    int pitch;
    const float* scale; // null: 1
    const float* more;  // null: 0
    int scale_pitch, more_pitch;
    bool relu;
    const int32_t* mask; // all bits, or none
    float step;          // of quads: what 1 in `from` stands for
    bool positive;       // of quads: whether none in `from` is negative
};

/*!
 * \brief Rows of planes, four at a time with the ones before and behind, as six folds of them.
 *
 * What a convolution over columns makes of each of these unfolds into what one over three rows
 * makes of the planes: F(4, 3) of Winograd, 6 products where there were 12.
 */
struct fold_job {
    int n_planes, stride, n_rows;
    int first, n_quads; // row, and how many times four of them, of which some may be beyond n_rows
    const float* from;
    int pitch;
    const float* nothing; // a row of zeros
    float* to;            // planes [n_folds][n_planes] of n_quads rows
    int to_pitch;
};
constexpr int n_folds = 6, folded_rows = 4;

//! to = mask & act(unfolded + more)
struct unfold_job {
    int n_planes, stride, n_rows, first, n_quads; // as fold_job's
    const float* from;                            // as fold_job's to
    int from_pitch;
    float* to;
    int pitch;
    const float* more; // null: 0
    int more_pitch;
    bool relu;
    const int32_t* mask;
};

//! From a received symbol of all antennas to planes: whitened, and turned back.
struct front_job {
    int n_rx, n_prb;
    const float* received[4];   // [12 n_prb][2]
    const float (*white)[4][2]; // [n_rx], lower triangle
    const float* turn;          // planes [2][12] of PRBs: conjugate phases
    int turn_pitch;
    float* to; // planes [n_rx][2][12], at the symbol
    int pitch;
};

constexpr int most_windows = 8;

//! What a layer's pilots look like, PRB by PRB.
struct look_job {
    int n_rx, n_dmrs, n_windows, n_prb;
    const float* pilots;           // planes [n_rx][n_dmrs][2][6 or more, of which the first 6]
    int pilots_pitch, pilots_part; // planes of a part
    const float* bank;             // planes [n_rx][n_dmrs][2][n_bank]: windows, 6 pilots each
    int bank_pitch, n_bank;
    float power; // of a pilot
    float* to;   // planes: of each window but the first, how far off it is; movement; level
    int to_pitch;
};

//! What windows and fits over time leave of pilots: squares, over the slot.
struct leftover_job {
    int n_rx, n_dmrs, n_windows, n_fits, n_prb;
    const float* pilots; // planes [n_rx][n_dmrs][2][6]
    int pilots_pitch;
    const float* bank;  // planes [n_rx][n_dmrs][2][n_bank]: windows, 6 pilots each
    const float* other; // of another layer in the same pilots, with signs that alternate; or null
    int bank_pitch, n_bank;
    const float* fits; // [n_fits][n_dmrs][n_dmrs]
    float left[4][most_windows];
};

//! A layer's channel at its pilots' subcarriers of all symbols, and between them.
struct mix_job {
    int n_rx, n_dmrs, n_modes, n_windows, n_symbols, n_prb;
    const float*
        bank; // planes [n_rx][n_dmrs][2][n_bank], of which n_windows windows, 6 pilots each
    int bank_pitch, n_bank;
    const float* gates; // planes [n_modes][n_windows]
    int gates_pitch;
    const float* modes; // [n_modes][n_symbols][n_dmrs]
    int first;          // subcarrier of a PRB that is a pilot's
    float* to;          // planes [n_rx][2][12]
    int pitch, stride;  // of rows
};

/*!
 * \brief Grids of a slot.
 *
 * A lower triangle and the one half of a Hermitian matrix that it is are n_rx n_rx numbers: of each
 * row real and imaginary parts up to the diagonal, and what is on it.
 */
struct grid_view {
    int n_rx, n_layers, n, pitch;
    const float* y;     // planes [n_rx][2][12]
    const float* h;     // planes [n_layers][n_rx][2][12]
    const float* turn;  // planes [2][12]: of the second layer against the first
    const float* white; // planes [n_rx n_rx], by which both are multiplied; null: they are not
    int bits[2];
};

//! What soft decisions say.
struct round_job {
    grid_view grid;
    const float* known;      // planes [n_layers][2][12] of pilots as sent
    const int32_t* data;     // planes [12]: all bits where data is
    const uint8_t* all_data; // of each most_lanes positions
    const int32_t* mask;
    const float* into; // [12][basis]
    int basis;
    float* inner; // planes [n_layers][n_rx][2][basis]: the innovation in its basis
    int inner_pitch;
    float* innovation; // planes [n_layers][n_rx][2][12]
    float* seen;       // planes [n_layers][n_seen]
    int seen_pitch;
    float* covariance; // planes [n_rx n_rx]: sums over a PRB of what is left
    float* noise;      // as covariance, and what decisions' errors are expected to add; or null
    float sums[2][3];  // of the first three of them before the logarithm, over all positions
};
constexpr int n_seen = 6; // coherent, left, SINR, missed; energy, and that of the other layer

//! The covariance of what decided symbols leave, PRB by PRB.
struct interference_job {
    int n_rx, n_symbols, n_prb, stride;
    const float* sums; // planes [n_rx n_rx] of PRBs of symbols
    int pitch;
    const float* shares; // planes [3]: 1 / PRBs of an average, which are fewer at an edge
    int shares_pitch;
    float* bank; // planes [4][n_rx n_rx]: averages, of which the first is over a PRB; reach 4
    int bank_pitch;
    float* seen; // planes [11]
    int seen_pitch;
};

//! What makes a PRB white of the weights, before the softmax, of unit noise and of averages.
struct whitener_job {
    int n_rx, n_prb;
    const float* weights; // planes [1 + 4]
    int weights_pitch;
    const float* bank; // planes [4][n_rx n_rx]
    int bank_pitch;
    float* white; // planes [n_rx n_rx]
    int white_pitch;
};

//! Filters over symbols, and steering of what they and those over frequency give.
struct time_job {
    int n_filters, n_taps, n_symbols, stride;
    const float* from;  // planes [n_filters]
    const float* taps;  // [n_filters][n_taps]
    const float* steer; // planes [2 n_filters]
    float* to;          // planes [2 n_filters]: as they are, and filtered
    int from_pitch, steer_pitch, to_pitch;
};

//! Symbols, and how noisy they show themselves.
struct symbols_job {
    grid_view grid;
    const int32_t* data; // as round_job's
    const uint8_t* all_data;
    const int32_t* mask;
    float* x;        // planes [n_layers][2][12]
    float* log_sinr; // planes [n_layers][12]
    float* noise;    // planes [n_layers]: what symbols show, a mean over a PRB
    int pitch;       // of these
    float* level[2]; // of each layer planes [2]: mean of log_sinr over a PRB, and its deviation
    int level_pitch;
};

//! of = log(max((of + little) * inverse, little)) - whole
struct excess_job {
    float* of;
    const float* inverse; // of what is expected, with little
    float whole;
    const int32_t* mask;
    int n;
};

struct llr_job {
    int n_layers, n, bits[2];
    const int32_t* data; // as round_job's
    int data_pitch;
    const uint8_t* all_data;
    const int32_t* mask;
    const float* x; // as symbols_job's
    const float* log_sinr;
    int pitch;
    const float* factor[2]; // of each layer's SINR, its logarithm
    const float* level[2];  // symbols_job's
    const float* judged[2]; // of each layer planes [2]: slope, doubt
    int judged_pitch;
    int n_symbols, n_prb, stride;
    float* llr; // [n_layers][n_symbols][12 n_prb][llr_stride]
    int llr_stride;
    // sums over data: what symbols of this SINR show, x E[s] and E[|s|^2] times it, and it
    float noise[2], along[2], energy[2], sinr[2];
};

//! The loops that take a net's time, as compiled for one processor.
struct pusch_kernel {
    const char* instructions;
    void (*sum)(const sum_job& job);
    void (*fold)(const fold_job& job);
    void (*unfold)(const unfold_job& job);
    void (*front)(const front_job& job);
    void (*look)(const look_job& job);
    void (*leftover)(leftover_job& job);
    void (*mix)(const mix_job& job);
    /*!
     * What a channel leaves of a DMRS symbol's pilots: a sum of squares.
     * \param known planes [n_layers][2][12] of pilots as sent \param first the symbol's position
     * \param every of which subcarriers are pilots: 1 or 2, from `from` on
     */
    float (*unexplained)(const grid_view& grid,
                         const float* known,
                         int first,
                         int n_prb,
                         int from,
                         int every,
                         const int32_t* mask);
    void (*round)(round_job& job);
    void (*interference)(const interference_job& job);
    void (*whitener)(const whitener_job& job);
    void (*time)(const time_job& job);
    void (*symbols)(const symbols_job& job);
    void (*excess)(const excess_job& job);
    void (*llrs)(llr_job& job);
    //! planes [count] of rows: to = row + column; rows may be null
    void (*spread)(const float* rows,
                   const float* columns,
                   int columns_pitch,
                   int count,
                   int n_rows,
                   int stride,
                   float* to,
                   int pitch);
    //! planes [count]: to *= by
    void (*steer)(float* to, int pitch, const float* by, int by_pitch, int count, int n);
    //! planes [count]: to -= by of
    void (*subtract)(float* to, const float* of, int pitch, const float* by, int count, int n);
    //! 0.5 log(x + 0.01), in place
    void (*half_log)(float* x, int n);
};

/*!
 * \brief Sums of products of fewer bits, for a processor that has them.
 *
 * Two planes are one of pairs of bfloat16, which are added up in float32, and four are one of quads
 * of int8, which are added up in int32. A position's 32 bits are the first plane's number, in the
 * lowest ones, and the next ones'; missing planes are zeros.
 */
struct packed_kernel {
    const char* instructions;
    int together; // planes
    //! planes [count] to packed ones; returns what 1 in them stands for: 1/127 of the largest in
    //! quads
    float (*pack)(const float* from, int pitch, int count, int n, float* to, int to_pitch);
    //! of packed planes, to planes
    void (*sum)(const sum_job& job);
    //! of pairs and, in `more`, pairs, to pairs; `scale` is not for them, and tiles begin with one.
    //! Null of quads: what 1 stands for in all of them is known behind the sum
    void (*sum_to_pairs)(const sum_job& job);
};

} // namespace gr::deeprx
