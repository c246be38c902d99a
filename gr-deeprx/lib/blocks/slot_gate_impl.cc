/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_gate_impl.h"
#include "tags.h"

#include <gnuradio/io_signature.h>

#include <algorithm>
#include <map>
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
      d_n_bits(n_bits)
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
    const int available = ninput_items[0];
    std::vector<tag_t> tags;
    get_tags_in_window(tags, 0, 0, available);
    std::map<int, uint64_t> lengths; // of the packets that start here; 0: tagged with no number
    std::map<int, uint64_t> indices; // of the slots
    for (const auto& tag : tags) {
        const int at = static_cast<int>(tag.offset - nitems_read(0));
        if (pmt::eq(tag.key, packet_len_key))
            lengths[at] = to_unsigned(tag.value).value_or(0);
        else if (const auto index = to_unsigned(tag.value);
                 index && pmt::eq(tag.key, slot_index_key))
            indices[at] = *index;
    }

    int read = 0, written = 0;
    while (read < available) {
        const auto length = lengths.find(read);
        if (length == lengths.end() || length->second != uint64_t(d_n_bits)) {
            drop(length == lengths.end() ? std::nullopt : std::optional(length->second));
            const auto next = lengths.upper_bound(read);
            read = next == lengths.end() ? available : next->first;
            continue;
        }
        if (available - read < d_n_bits || noutput_items - written < d_n_bits)
            break;
        d_in_dropped = false;
        std::copy_n(bits + read, d_n_bits, out + written);
        if (const auto index = indices.find(read); index != indices.end())
            d_next_index = index->second;
        const uint64_t offset = nitems_written(0) + written;
        for (const auto& [key, length] : d_tags)
            add_item_tag(0, offset, key, length, alias_pmt());
        add_item_tag(0, offset, slot_index_key, pmt::from_uint64(d_next_index++), alias_pmt());
        read += d_n_bits;
        written += d_n_bits;
    }
    consume_each(read);
    return written;
}

void slot_gate_impl::drop(std::optional<uint64_t> length)
{
    if (!length && d_in_dropped)
        return;
    d_in_dropped = true;
    d_dropped_packets++;
    if (const uint64_t n = d_lines.count())
        d_logger->warn("dropped {:s}: expected packets of {:d} bits, tagged packet_len ({:d} since "
                       "the last line)",
                       length ? "a packet of " + std::to_string(*length) + " bits"
                              : std::string("bits without a packet_len tag"),
                       d_n_bits,
                       n);
}

} // namespace gr::deeprx
