/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "coded_block.h"
#include "guarded.h"
#include "line_pace.h"
#include "packet_finder.h"
#include "scrambler.h"
#include "slot_grant.h"

#include <gnuradio/deeprx/tb_decoder.h>

#include <atomic>
#include <deque>
#include <string>
#include <vector>

namespace gr::deeprx {

class tb_decoder_impl : public guarded<tb_decoder>
{
public:
    tb_decoder_impl(const block_format& format,
                    int llr_sign,
                    int buffers,
                    const std::string& len_tag_key);

    uint64_t blocks() const override { return d_blocks; }
    uint64_t block_errors() const override { return d_block_errors; }
    uint64_t dropped() const override { return d_dropped; }
    uint64_t forgotten() const override { return d_forgotten; }

    void forecast(int noutput_items, gr_vector_int& ninput_items_required) override;
    int general_work(int noutput_items,
                     gr_vector_int& ninput_items,
                     gr_vector_const_void_star& input_items,
                     gr_vector_void_star& output_items) override;

private:
    struct granted_slot {
        uint64_t slot_index;
        slot_grant grant;
    };
    void handle_grant(const pmt::pmt_t& message);
    slot_grant granted(uint64_t slot_index);
    void decode(const float* llr, uint64_t slot_index, const slot_grant& grant);
    void drop(const std::string& why);
    void drop(const granted_slot& slot, const std::string& why);
    void publish(const pmt::pmt_t& about, const std::vector<uint8_t>& block);

    const transport_block d_block;
    scrambler d_scrambler;
    const float d_llr_sign;
    const slot_grant d_default;
    const pmt::pmt_t d_length_key;
    packet_finder d_packets;
    harq_buffers d_buffers;
    ldpc_decoder d_decoder;
    std::deque<granted_slot> d_granted; // whose LLRs have not come
    std::vector<float> d_llr;           // descrambled

    std::atomic<uint64_t> d_blocks{ 0 };
    std::atomic<uint64_t> d_block_errors{ 0 };
    std::atomic<uint64_t> d_dropped{ 0 };
    std::atomic<uint64_t> d_forgotten{ 0 };
    line_pace d_drop_lines;
    line_pace d_grant_lines;
};

} // namespace gr::deeprx
