/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "model_info.h"

#include <pmt/pmt.h>

#include <cstdint>
#include <optional>
#include <string>

namespace gr::deeprx {

//! Who estimated channel and noise.
inline const pmt::pmt_t estimator_key = pmt::mp("estimator");

//! What a message to a receiver's port model asks for.
struct model_request {
    std::string path;
    uint64_t at_slot; // 0: the next one
};

//! None, where a message is no request: anybody may send anything.
std::optional<model_request> to_model_request(const pmt::pmt_t& message);

pmt::pmt_t to_message(const model_request& request);

/*!
 * \brief What a receiver says on its port stats; receiver.h describes it to users.
 *
 * Of one model: what all messages about it have in common is made once.
 */
class receiver_messages
{
public:
    //! \param engine as its description() says
    receiver_messages(const model_info& info, const std::string& engine, int n_prb, int n_rx);

    struct batch {
        int slots;
        uint64_t wall_ns; // these three are of all its slots
        uint64_t cpu_ns;
        uint64_t engine_cpu_ns;
        int queued;
        pmt::pmt_t estimator = pmt::PMT_NIL; // whose estimates were sent; nil: nobody's
    };

    //! What the messages about a batch's slots have in common, for slot().
    pmt::pmt_t about(const batch& batch) const;
    static pmt::pmt_t slot(const pmt::pmt_t& about, uint64_t slot_index);

    static pmt::pmt_t dropped(uint64_t slot_index, const std::string& reason);

    pmt::pmt_t model_loaded() const;
    static pmt::pmt_t model_error(const std::string& why);
    static pmt::pmt_t model_replaced(const std::string& line);
    //! Adds the path that was asked for, a symbol already.
    static pmt::pmt_t answer(const pmt::pmt_t& message, const std::string& path);
    static pmt::pmt_t model_lost(const std::string& line);
    static pmt::pmt_t estimate_error(const std::string& why);

private:
    pmt::pmt_t d_model;
};

} // namespace gr::deeprx
