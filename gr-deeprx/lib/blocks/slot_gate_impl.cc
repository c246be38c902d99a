/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_gate_impl.h"

#include <gnuradio/io_signature.h>

#include <algorithm>
#include <string>

namespace gr::deeprx {

slot_gate::sptr slot_gate::make(int n_bits, const std::map<std::string, long>& lengths)
{
    return gnuradio::make_block_sptr<slot_gate_impl>(n_bits, lengths);
}

slot_gate_impl::slot_gate_impl(int n_bits, const std::map<std::string, long>& lengths)
    : gr::block("Slot gate",
                gr::io_signature::make(1, 1, sizeof(uint8_t)),
                gr::io_signature::make(1, 1, sizeof(uint8_t))),
      d_n_bits(n_bits), d_packets(n_bits, "bits", packet_len_key)
{
    for (const auto& [key, length] : lengths)
        d_tags[pmt::mp(key)] = pmt::from_long(length);
    set_tag_propagation_policy(TPP_DONT);
    set_output_multiple(n_bits);
}

bool slot_gate_impl::check_topology(int, int)
{
    set_max_output_buffer(-1);
    for (auto& block : d_kept)
        block->set_max_output_buffer(-1);
    return true;
}

void slot_gate_impl::forecast(int, gr_vector_int& ninput_items_required)
{
    ninput_items_required[0] = d_n_bits;
}

int slot_gate_impl::general_work(int noutput_items,
                                 gr_vector_int& ninput_items,
                                 gr_vector_const_void_star& input_items,
                                 gr_vector_void_star& output_items)
{
    const auto* bits = static_cast<const uint8_t*>(input_items[0]);
    auto* out = static_cast<uint8_t*>(output_items[0]);
    std::vector<tag_t> tags;
    get_tags_in_window(tags, 0, 0, ninput_items[0]);
    d_packets.look(std::move(tags), nitems_read(0), ninput_items[0]);

    int written = 0;
    while (noutput_items - written >= d_n_bits) {
        const auto packet = d_packets.next([this](const auto& why) { drop(why); });
        if (!packet)
            break;
        std::copy_n(bits + packet->at, d_n_bits, out + written);
        const uint64_t offset = nitems_written(0) + written;
        for (const auto& [key, length] : d_tags)
            add_item_tag(0, offset, key, length, alias_pmt());
        add_item_tag(0, offset, slot_index_key, pmt::from_uint64(packet->slot_index), alias_pmt());
        written += d_n_bits;
    }
    consume_each(d_packets.read());
    return written;
}

void slot_gate_impl::drop(const std::string& why)
{
    d_dropped_packets++;
    if (const uint64_t n = d_lines.count())
        d_logger->warn("dropped {:s} ({:d} since the last line)", why, n);
}

} // namespace gr::deeprx
