/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "tb_source_impl.h"
#include "message_wait.h"
#include "parameters.h"
#include "seeded_block.h"
#include "tags.h"

#include <gnuradio/io_signature.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace gr::deeprx {

namespace {

const pmt::pmt_t pdus_port = pmt::mp("pdus");
constexpr size_t most_waiting = 4096;

} // namespace

tb_source::sptr tb_source::make(
    int size, int rnti, bool seeded, uint64_t seed, int port, uint64_t first_slot, uint64_t n_slots)
{
    expect(size >= 24 && size % 8 == 0,
           "a transport block has 24 bits or more, in whole bytes",
           std::to_string(size));
    expect(rnti >= 0 && rnti <= 65535, "rnti must be 0 to 65535", std::to_string(rnti));
    expect(n_slots <= std::numeric_limits<uint64_t>::max() - first_slot,
           "slots must stay below 2^64",
           std::to_string(n_slots) + " from " + std::to_string(first_slot) + " on");
    return gnuradio::make_block_sptr<tb_source_impl>(
        size, rnti, seeded, seed, port, first_slot, n_slots);
}

tb_source_impl::tb_source_impl(
    int size, int rnti, bool seeded, uint64_t seed, int port, uint64_t first_slot, uint64_t n_slots)
    : gr::sync_block("Transport block source",
                     gr::io_signature::make(0, 0, 0),
                     gr::io_signature::make(1, 1, sizeof(uint8_t))),
      d_size(size), d_default{ rnti }, d_seeded(seeded), d_seed(seed), d_port(port),
      d_next(first_slot), d_left(n_slots), d_endless(n_slots == 0)
{
    set_output_multiple(size / 8);
    if (!seeded) {
        message_port_register_in(pdus_port);
        set_msg_handler(pdus_port, [this](const pmt::pmt_t& message) { handle_pdu(message); });
    }
}

void tb_source_impl::handle_pdu(const pmt::pmt_t& message)
try {
    if (d_waiting.size() == most_waiting)
        throw std::invalid_argument("expected " + std::to_string(most_waiting) +
                                    " blocks at most that wait, got one more");
    d_waiting.push_back(to_granted_block(message, d_size / 8, d_default));
} catch (const std::invalid_argument& e) {
    d_refused++;
    if (const uint64_t n = d_lines.count())
        d_logger->warn("a block is refused: {:s} ({:d} since the last line)", e.what(), n);
}

int tb_source_impl::work(int noutput_items,
                         gr_vector_const_void_star&,
                         gr_vector_void_star& output_items)
{
    auto* out = static_cast<uint8_t*>(output_items[0]);
    const int n_bytes = d_size / 8;
    int produced = 0;
    while (produced < noutput_items && (d_endless || d_left) && (d_seeded || !d_waiting.empty())) {
        auto next = d_seeded
                        ? granted_block{ d_default, seeded_block(d_seed, d_next, d_port, d_size) }
                        : std::move(d_waiting.front());
        if (!d_seeded)
            d_waiting.pop_front();
        std::copy_n(next.bytes.begin(), n_bytes, out + produced);
        const uint64_t offset = nitems_written(0) + produced;
        add_item_tag(0, offset, packet_len_key, pmt::from_long(n_bytes), alias_pmt());
        add_item_tag(0, offset, slot_index_key, pmt::from_uint64(d_next++), alias_pmt());
        next.grant.each([&](const auto& key, const auto& value) {
            add_item_tag(0, offset, key, value, alias_pmt());
        });
        produced += n_bytes;
        if (!d_endless)
            d_left--;
    }
    if (produced)
        return produced;
    if (!d_endless && !d_left)
        return WORK_DONE;
    wait_for_message(*this);
    return 0;
}

} // namespace gr::deeprx
