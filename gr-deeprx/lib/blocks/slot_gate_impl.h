/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "guarded.h"
#include "line_pace.h"
#include "packet_finder.h"

#include <gnuradio/deeprx/slot_gate.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

namespace gr::deeprx {

class slot_gate_impl : public guarded<slot_gate>
{
public:
    slot_gate_impl(int n_bits, const std::map<std::string, long>& lengths);

    uint64_t dropped_packets() const override { return d_dropped_packets; }
    void keep_buffers(gr::block_sptr block) override { d_kept.push_back(block); }

    // called at each start, before buffers are made
    bool check_topology(int ninputs, int noutputs) override;

    void forecast(int noutput_items, gr_vector_int& ninput_items_required) override;
    int general_work(int noutput_items,
                     gr_vector_int& ninput_items,
                     gr_vector_const_void_star& input_items,
                     gr_vector_void_star& output_items) override;

private:
    void drop(const std::string& why);

    const int d_n_bits;
    packet_finder d_packets;
    std::map<pmt::pmt_t, pmt::pmt_t> d_tags; // of every slot that leaves
    std::vector<gr::block_sptr> d_kept;
    std::atomic<uint64_t> d_dropped_packets{ 0 };
    line_pace d_lines;
};

} // namespace gr::deeprx
