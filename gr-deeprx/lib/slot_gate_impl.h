/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/slot_gate.h>

#include <atomic>
#include <optional>

namespace gr::deeprx {

class slot_gate_impl : public slot_gate
{
public:
    explicit slot_gate_impl(int n_bits);

    uint64_t dropped_packets() const override { return d_dropped_packets; }

    void forecast(int noutput_items, gr_vector_int& ninput_items_required) override;
    int general_work(int noutput_items,
                     gr_vector_int& ninput_items,
                     gr_vector_const_void_star& input_items,
                     gr_vector_void_star& output_items) override;

private:
    void drop(std::optional<long> length);

    const int d_n_bits;
    uint64_t d_next_index = 0;
    bool d_in_dropped = false; // what follows without a tag belongs to the last drop
    std::atomic<uint64_t> d_dropped_packets{ 0 };
};

} // namespace gr::deeprx
