/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/block.h>
#include <gnuradio/deeprx/api.h>

#include <cstdint>
#include <map>
#include <string>

namespace gr::deeprx {

/*!
 * \brief Passes packets of exactly n_bits bytes and numbers those without a slot_index; others are
 * dropped.
 *
 * The stock blocks behind it would turn a packet of another length into a shorter or longer burst,
 * and every later slot would start at the wrong time. Packets start at tags packet_len.
 *
 * lengths: tags of the slots that leave, by key. Stock blocks each have their own among them: one
 * that stops amid a packet knows its length still when it starts again, and lets the next tag pass.
 */
class DEEPRX_API slot_gate : virtual public gr::block
{
public:
    using sptr = std::shared_ptr<slot_gate>;

    static sptr make(int n_bits, const std::map<std::string, long>& lengths);

    //! Packets of another length, or runs of items without a tag, so far.
    virtual uint64_t dropped_packets() const = 0;

    /*!
     * Let a block's output buffers have their full size whenever a flowgraph starts: GNU Radio
     * takes the size that it gave one for the most that a second start may give, and forgets the
     * least.
     */
    virtual void keep_buffers(gr::block_sptr block) = 0;
};

} // namespace gr::deeprx
