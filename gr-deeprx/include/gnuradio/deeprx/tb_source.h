/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>
#include <gnuradio/sync_block.h>

#include <cstdint>

namespace gr::deeprx {

/*!
 * \brief Transport blocks of consecutive slots: from messages, or known from (seed, slot index)
 * alone.
 *
 * Output: bytes of a block, most significant bit first, packets with tags packet_len, slot_index,
 * rnti, process, rv and new_data.
 *
 * Message port \b pdus (in), unless seeded: pairs of a dictionary and the block's bytes (u8vector).
 * Each goes into the next slot; no slot is sent while none waits. The dictionary's keys, all
 * optional: rnti (0 to 65535; else the user's), process (of HARQ, 0 to 15; else 0), rv (0 to 3;
 * else 0), new_data (bool; else true). What is no such pair, or has another number of bytes, is
 * refused, counted and reported.
 *
 * pdu_to_tagged_stream throws where a message is no PDU, and lets a block of any length pass.
 */
class DEEPRX_API tb_source : virtual public gr::sync_block
{
public:
    using sptr = std::shared_ptr<tb_source>;

    /*!
     * \param size bits of a block
     * \param rnti of blocks that come without one
     * \param seeded whether blocks follow from \p seed; else they come as messages
     * \param port of the DMRS: two users' blocks of one seed differ
     * \param first_slot index of the first slot
     * \param n_slots how many, 0: no end. A flowgraph that starts again goes on counting
     * \throws std::invalid_argument a parameter is out of range
     */
    static sptr make(int size,
                     int rnti,
                     bool seeded,
                     uint64_t seed,
                     int port,
                     uint64_t first_slot,
                     uint64_t n_slots);

    //! Messages that were no blocks, so far.
    virtual uint64_t refused() const = 0;
};

} // namespace gr::deeprx
