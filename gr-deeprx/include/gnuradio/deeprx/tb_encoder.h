/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/block.h>
#include <gnuradio/deeprx/api.h>
#include <gnuradio/deeprx/block_format.h>

#include <cstdint>

namespace gr::deeprx {

/*!
 * \brief Encodes transport blocks (TS 38.212 clause 6.2) and scrambles them (TS 38.211 clause
 * 6.3.1.1): ahead of a slot transmitter.
 *
 * Input: bytes of a block, most significant bit first; packets tagged packet_len. Tags rnti,
 * process, rv and new_data say how it is sent, as tb_source does; without them it is new data at
 * rv 0. Output: bits, one a byte, coded_bits a packet; the same tags, and slot_index, counted where
 * the input has none.
 *
 * Message port \b grants (out): of each slot a dictionary of slot_index, rnti, process, rv and
 * new_data, for the tb_decoder at the other end, which no tag reaches through the air.
 *
 * A packet of another length, or with a tag out of range, is dropped, counted and reported.
 *
 * gr-fec has no LDPC code of 5G, and no rate matching.
 */
class DEEPRX_API tb_encoder : virtual public gr::block
{
public:
    using sptr = std::shared_ptr<tb_encoder>;

    //! \throws std::invalid_argument there is no such block, or it does not fit
    static sptr make(const block_format& format);

    //! Packets, or runs of items without a tag, dropped so far.
    virtual uint64_t dropped() const = 0;
};

} // namespace gr::deeprx
