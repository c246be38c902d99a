/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/block.h>
#include <gnuradio/block_detail.h>

namespace gr::deeprx {

//! In work(), which the scheduler would call again at once: waits for a message or input, for 250
//! ms at most.
inline void wait_for_message(gr::block& block)
{
    auto& waiting = block.detail()->d_tpb;
    gr::thread::scoped_lock lock(waiting.mutex);
    if (!waiting.input_changed && block.empty_handled_p())
        waiting.input_cond.timed_wait(lock, boost::posix_time::milliseconds(250));
}

} // namespace gr::deeprx
