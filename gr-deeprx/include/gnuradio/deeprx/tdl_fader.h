/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>
#include <gnuradio/deeprx/tdl_fading.h>
#include <gnuradio/sync_block.h>

#include <cstdint>
#include <memory>

namespace gr::deeprx {

/*!
 * \brief tdl_fading as a block: one signal in, one faded copy per antenna out.
 *
 * Not selective_fading_model: that is many times slower, even with merged taps, puts the line of
 * sight at a random share of the Doppler, correlates taps of neighbouring seeds, and needs a new
 * flowgraph for a new draw.
 */
class DEEPRX_API tdl_fader : virtual public gr::sync_block
{
public:
    using sptr = std::shared_ptr<tdl_fader>;

    /*!
     * \param fading of this block alone
     * \param burst_slots draw anew where a slot_index tag passes a multiple of it; 0: never
     * \param tags pass them on to every output
     */
    static sptr make(std::shared_ptr<tdl_fading> fading, uint64_t burst_slots, bool tags);
};

} // namespace gr::deeprx
