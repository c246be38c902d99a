/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "classical_receiver.h"
#include "engine.h"
#include "slot_batches.h"
#include "slot_geometry.h"

#include <pmt/pmt.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace gr::deeprx {

//! What a receiver says on its port estimates; receiver.h describes it to users.
class slot_estimates
{
public:
    //! That estimates where a model does not.
    static const std::string classical_name;

    slot_estimates(const slot_geometry& slot, int n_rx);

    //! The one of a batch's slots that has this position.
    estimates of_slot(const estimates& of_batch, int position) const;

    /*!
     * \brief By the classical receiver.
     * \param streams, slot as copy_grid() takes them
     * \return until the next call
     */
    estimates classical(const std::vector<const void*>& streams, const slot_in_work& slot);

    //! Whether another message may be sent: of those that were, nobody holds 64 MiB.
    bool has_room();

    /*!
     * \brief A slot's message, at the scale of the input.
     * \param estimator whose the estimates are
     * \return nil: one of them is NaN or infinite
     */
    pmt::pmt_t
    message(const slot_in_work& slot, const estimates& of_slot, const pmt::pmt_t& estimator);

private:
    const slot_geometry d_slot;
    const int d_n_rx;
    const size_t d_channel_size;                     // of a slot, complex
    std::deque<std::weak_ptr<pmt::pmt_base>> d_sent; // channels, from the first that is still held
    // Where somebody asks for them:
    std::unique_ptr<classical_receiver> d_classical;
    std::vector<float> d_grid, d_pilots, d_channel, d_noise;
};

} // namespace gr::deeprx
