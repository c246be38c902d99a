/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

namespace gr::deeprx {

constexpr int equaliser_lanes = 64; // subcarriers at a time; planes are padded to a multiple of it
constexpr int most_antennas = 4;
constexpr int most_layers = 2;

//! One OFDM symbol of a slot, as an equaliser takes it. A plane is float32 [2][stride]: re, im.
struct symbol_job {
    int n_rx, n_layers, n_subcarriers, stride;
    const float* received[most_antennas]; // [n_subcarriers][2]
    float turn[most_antennas][2];         // the received symbol is multiplied by it

    //! Planes of the channel at two times; it is (1 - weight) before + weight after.
    const float* before[most_layers][most_antennas];
    const float* after[most_layers][most_antennas];
    float weight;

    //! Of the covariance of noise and interference, Hermitian, row by row; re, im.
    float inverse[most_antennas][most_antennas][2];
    //! Zero forcing instead: noise power of each antenna, and `inverse` is not used.
    bool zero_forcing;
    float noise[most_antennas];

    int bits[most_layers];
    const float* levels[most_layers]; // of one axis, by its bits, first bit highest
    bool max_log;
    float llr_limit[most_layers]; // 0, or LLRs are no larger and have 120 steps to it
    float* llr[most_layers];      // [n_subcarriers][llr_stride]
    int llr_stride;
};

//! The loops of a classical receiver that take its time, as compiled for one processor.
struct equaliser_kernel {
    const char* instructions;
    //! From received symbol to LLRs.
    void (*equalise)(const symbol_job& job);
    //! to[i] = sum of taps[j] * from[i + j], for n values.
    void (*filter)(const float* from, const float* taps, int n_taps, float* to, int n);
};

} // namespace gr::deeprx
