/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/block.h>
#include <gnuradio/deeprx/api.h>

#include <cstdint>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief Spectra of the FFT windows of 14 symbols, cut out of every slot of n_rx antennas: what
 * aligned_front_end does.
 *
 * keep_m_in_n knows one prefix length only and leaves packet_len counting samples.
 */
class DEEPRX_API slot_cutter : virtual public gr::block
{
public:
    using sptr = std::shared_ptr<slot_cutter>;

    /*!
     * \param fft_size samples of a window, points of a spectrum
     * \param cp_pattern samples of each symbol's cyclic prefix, 14 of each slot, over and over from
     * slot_index 0 on
     * \param n_rx antennas, each an input and an output
     * \param offset_samples from the end of the prefix to the window's start
     * \param first_slot index of the first slot, until a slot_index tag says otherwise
     * \param turns that symbols' spectra are multiplied by, 14 of each slot, over and over from
     * slot_index 0 on; empty: by nothing
     * \throws std::invalid_argument offset_samples lies outside of the symbol, prefixes or turns
     * are not those of whole slots
     */
    static sptr make(int fft_size,
                     const std::vector<std::vector<int>>& cp_pattern,
                     int n_rx,
                     int offset_samples,
                     uint64_t first_slot,
                     const std::vector<gr_complex>& turns = {});

    //! Samples of slots that were cut short, so far.
    virtual uint64_t dropped_samples() const = 0;
};

} // namespace gr::deeprx
