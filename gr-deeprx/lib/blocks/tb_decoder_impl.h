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
#include <chrono>
#include <deque>
#include <optional>
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
    uint64_t without_grant() const override { return d_without_grant; }

    void forecast(int noutput_items, gr_vector_int& ninput_items_required) override;
    int general_work(int noutput_items,
                     gr_vector_int& ninput_items,
                     gr_vector_const_void_star& input_items,
                     gr_vector_void_star& output_items) override;

private:
    using clock = std::chrono::steady_clock;
    struct granted_slot {
        uint64_t slot_index;
        slot_grant grant;
    };
    struct ungranted_slot {
        uint64_t slot_index;
        bool uncounted; // as there were no grants then
    };
    void handle_grant(const pmt::pmt_t& message);
    bool is_late(const granted_slot& slot);
    std::optional<slot_grant> granted(uint64_t slot_index);
    bool is_tagged(const packet_finder::packet& packet) const;
    bool awaits_grant(uint64_t slot_index);
    void take_without_grant(uint64_t slot_index, bool unknown);
    void count_without_grant(uint64_t slot_index);
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
    std::deque<granted_slot> d_granted;       // whose LLRs have not come
    std::deque<ungranted_slot> d_ungranted;   // whose LLRs came, ascending
    bool d_grants_come = false;               // at least one did
    bool d_patient = false;                   // since the last one none was awaited in vain
    std::optional<clock::time_point> d_waits; // since when, for the next slot's
    std::vector<float> d_llr;                 // descrambled

    std::atomic<uint64_t> d_blocks{ 0 };
    std::atomic<uint64_t> d_block_errors{ 0 };
    std::atomic<uint64_t> d_dropped{ 0 };
    std::atomic<uint64_t> d_forgotten{ 0 };
    std::atomic<uint64_t> d_without_grant{ 0 };
    line_pace d_drop_lines;
    line_pace d_grant_lines;
    line_pace d_ungranted_lines;
};

} // namespace gr::deeprx
