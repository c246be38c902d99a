/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/block.h>
#include <gnuradio/deeprx/api.h>

#include <cstdint>

namespace gr::deeprx {

/*!
 * \brief Passes packets of exactly n_bits bytes and numbers those without a slot_index; others are
 * dropped.
 *
 * The stock blocks behind it would turn a packet of another length into a shorter or longer burst,
 * and every later slot would start at the wrong time. Packets start at tags packet_len.
 */
class DEEPRX_API slot_gate : virtual public gr::block
{
public:
    using sptr = std::shared_ptr<slot_gate>;

    static sptr make(int n_bits);

    //! Packets of another length, or runs of items without a tag, so far.
    virtual uint64_t dropped_packets() const = 0;
};

} // namespace gr::deeprx
