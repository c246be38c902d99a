/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/block.h>
#include <gnuradio/deeprx/api.h>
#include <gnuradio/deeprx/block_format.h>

#include <cstdint>
#include <string>

namespace gr::deeprx {

/*!
 * \brief Descrambles and decodes transport blocks, and combines retransmissions (HARQ).
 *
 * Input: float LLRs of the coded bits, coded_bits a packet, tagged packet_len and slot_index, as
 * the receiver gives them. Tags rnti, process, rv and new_data say how it was sent where there are
 * any; else its grant does; without one it is new data of process 0 at rv 0.
 *
 * Output, optional: the same packets with these two tags, each after the message about its block.
 *
 * Message port \b grants (in): of each slot, in the order in which they are sent, the dictionary
 * that tb_encoder publishes. Once there was one, LLRs without tags wait for theirs, until that of a
 * later slot comes, or none for 1 s. A slot whose grant came late or never is counted and reported;
 * then all soft bits go, as nobody knows to which process it belonged.
 *
 * Message port \b blocks (out): of each slot a pair of a dictionary and the block's bytes
 * (u8vector): slot_index (uint64), rnti, process, rv (long), new_data, crc_ok (bool), iterations
 * (double, mean over code blocks), transmissions (long, that were combined) and cpu_ns (uint64).
 * Where the CRC fails the bytes are the best guess.
 *
 * LLRs that cannot be decoded (NaN, another number of them, a tag out of range, a retransmission of
 * a process of which there is nothing) are dropped, counted and reported: on \b blocks with the
 * same keys, crc_ok false, dropped (symbol, the reason) and no bytes. So are granted slots of which
 * no LLRs came, once those of a later one do. Dropped new data leaves its process with nothing; a
 * dropped retransmission leaves what was received before.
 */
class DEEPRX_API tb_decoder : virtual public gr::block
{
public:
    using sptr = std::shared_ptr<tb_decoder>;

    /*!
     * \param llr_sign 1, or -1 for log P(b=0)/P(b=1)
     * \param buffers HARQ processes at most, of all users; where all are in use, the one longest
     * not heard of is forgotten
     * \throws std::invalid_argument there is no such block, it does not fit, or a parameter is out
     * of range
     */
    static sptr make(const block_format& format,
                     int llr_sign = 1,
                     int buffers = 256,
                     const std::string& len_tag_key = "packet_len");

    //! Blocks decoded so far, whether or not their CRC was right.
    virtual uint64_t blocks() const = 0;
    //! Of these, with a wrong CRC.
    virtual uint64_t block_errors() const = 0;
    //! Packets that could not be decoded, and granted slots that never came, so far.
    virtual uint64_t dropped() const = 0;
    //! HARQ processes forgotten so far, because all buffers were in use.
    virtual uint64_t forgotten() const = 0;
    //! Slots so far that were taken for new data of process 0, as their grant came late or never.
    virtual uint64_t without_grant() const = 0;
};

} // namespace gr::deeprx
