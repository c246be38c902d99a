/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "coded_block.h"
#include "guarded.h"
#include "line_pace.h"
#include "packet_finder.h"
#include "scrambler.h"
#include "slot_grant.h"

#include <gnuradio/deeprx/tb_encoder.h>

#include <atomic>
#include <string>

namespace gr::deeprx {

class tb_encoder_impl : public guarded<tb_encoder>
{
public:
    explicit tb_encoder_impl(const block_format& format);

    uint64_t dropped() const override { return d_dropped; }

    void forecast(int noutput_items, gr_vector_int& ninput_items_required) override;
    int general_work(int noutput_items,
                     gr_vector_int& ninput_items,
                     gr_vector_const_void_star& input_items,
                     gr_vector_void_star& output_items) override;

private:
    void drop(const std::string& why);

    const transport_block d_block;
    scrambler d_scrambler;
    const slot_grant d_default;
    packet_finder d_packets;
    std::atomic<uint64_t> d_dropped{ 0 };
    line_pace d_lines;
};

} // namespace gr::deeprx
