/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <vector>

namespace gr::deeprx {

//! Where a slot's symbols and their FFT windows lie among its samples.
struct slot_windows {
    /*!
     * \param fft_size samples of a window
     * \param cp_lengths samples of each symbol's cyclic prefix
     * \param offset_samples from the end of the prefix to the window's start
     * \throws std::invalid_argument offset_samples lies outside of the symbol
     */
    slot_windows(int fft_size, const std::vector<int>& cp_lengths, int offset_samples);

    //! The symbol that a sample of the slot belongs to.
    int symbol_of(int sample) const;

    std::vector<int> symbols; // first sample of each, its prefix's
    std::vector<int> windows; // first sample of each
    int length = 0;           // samples of a slot
    int lookahead;            // samples that its windows reach over
};

} // namespace gr::deeprx
