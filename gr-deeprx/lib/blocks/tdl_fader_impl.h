/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "guarded.h"

#include <gnuradio/deeprx/tdl_fader.h>

namespace gr::deeprx {

class tdl_fader_impl : public guarded<tdl_fader>
{
public:
    tdl_fader_impl(std::shared_ptr<tdl_fading> fading, uint64_t burst_slots, bool tags);

    int work(int noutput_items,
             gr_vector_const_void_star& input_items,
             gr_vector_void_star& output_items) override;

private:
    const std::shared_ptr<tdl_fading> d_fading;
    const uint64_t d_burst_slots;
    uint64_t d_draw = 0;
};

} // namespace gr::deeprx
