/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "guarded.h"
#include "line_pace.h"
#include "slot_grant.h"

#include <gnuradio/deeprx/tb_source.h>

#include <atomic>
#include <deque>

namespace gr::deeprx {

class tb_source_impl : public guarded<tb_source>
{
public:
    tb_source_impl(int size,
                   int rnti,
                   bool seeded,
                   uint64_t seed,
                   int port,
                   uint64_t first_slot,
                   uint64_t n_slots);

    uint64_t refused() const override { return d_refused; }

    int work(int noutput_items,
             gr_vector_const_void_star& input_items,
             gr_vector_void_star& output_items) override;

private:
    void handle_pdu(const pmt::pmt_t& message);

    const int d_size;
    const slot_grant d_default;
    const bool d_seeded;
    const uint64_t d_seed;
    const int d_port;
    uint64_t d_next;
    uint64_t d_left; // slots; 0 with no end: never reached
    const bool d_endless;
    std::deque<granted_block> d_waiting;
    std::atomic<uint64_t> d_refused{ 0 };
    line_pace d_lines;
};

} // namespace gr::deeprx
