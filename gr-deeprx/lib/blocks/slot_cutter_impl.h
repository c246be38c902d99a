/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "guarded.h"
#include "slot_windows.h"

#include <gnuradio/deeprx/slot_cutter.h>
#include <gnuradio/deeprx/unitary_fft.h>

#include <atomic>

namespace gr::deeprx {

class slot_cutter_impl : public guarded<slot_cutter>
{
public:
    slot_cutter_impl(int fft_size,
                     const std::vector<std::vector<int>>& cp_pattern,
                     int n_rx,
                     int offset_samples,
                     uint64_t first_slot,
                     const std::vector<gr_complex>& turns);

    uint64_t dropped_samples() const override { return d_dropped_samples; }

    void forecast(int noutput_items, gr_vector_int& ninput_items_required) override;
    int general_work(int noutput_items,
                     gr_vector_int& ninput_items,
                     gr_vector_const_void_star& input_items,
                     gr_vector_void_star& output_items) override;

private:
    const slot_windows& slot() const { return d_slots[d_slot_index % d_slots.size()]; }
    void tag_slot(const std::vector<tag_t>& tags, uint64_t start, uint64_t offset);

    const std::vector<slot_windows> d_slots; // 0, 1, .., over and over
    const int d_shortest;                    // of their lookaheads
    int d_needed = d_shortest;               // samples of the next slot, as far as is known
    unitary_fft d_fft;
    const std::vector<gr_complex> d_turns;
    uint64_t d_slot_index;
    std::atomic<uint64_t> d_dropped_samples{ 0 };
};

} // namespace gr::deeprx
