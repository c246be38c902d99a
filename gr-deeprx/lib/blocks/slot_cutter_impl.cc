/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_cutter_impl.h"
#include "slot_tags.h"
#include "tags.h"

#include <gnuradio/io_signature.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

slot_cutter::sptr slot_cutter::make(int fft_size,
                                    const std::vector<std::vector<int>>& cp_pattern,
                                    int n_rx,
                                    int offset_samples,
                                    uint64_t first_slot,
                                    const std::vector<gr_complex>& turns)
{
    return gnuradio::make_block_sptr<slot_cutter_impl>(
        fft_size, cp_pattern, n_rx, offset_samples, first_slot, turns);
}

namespace {

std::vector<slot_windows>
windows_of(int fft_size, const std::vector<std::vector<int>>& cp_pattern, int offset_samples)
{
    std::vector<slot_windows> slots;
    for (const auto& cp_lengths : cp_pattern) {
        if (cp_lengths.empty() || cp_lengths.size() != cp_pattern.front().size())
            throw std::invalid_argument("prefixes must be as many of each slot, got " +
                                        std::to_string(cp_lengths.size()));
        slots.emplace_back(fft_size, cp_lengths, offset_samples);
    }
    if (slots.empty())
        throw std::invalid_argument("prefixes must be those of a slot or more, got none");
    return slots;
}

int shortest(const std::vector<slot_windows>& slots)
{
    const auto shorter = [](const auto& a, const auto& b) { return a.lookahead < b.lookahead; };
    return std::min_element(slots.begin(), slots.end(), shorter)->lookahead;
}

} // namespace

slot_cutter_impl::slot_cutter_impl(int fft_size,
                                   const std::vector<std::vector<int>>& cp_pattern,
                                   int n_rx,
                                   int offset_samples,
                                   uint64_t first_slot,
                                   const std::vector<gr_complex>& turns)
    : gr::block("Slot cutter",
                gr::io_signature::make(n_rx, n_rx, sizeof(gr_complex)),
                gr::io_signature::make(n_rx, n_rx, fft_size * sizeof(gr_complex))),
      d_slots(windows_of(fft_size, cp_pattern, offset_samples)), d_shortest(shortest(d_slots)),
      d_fft(fft_size), d_turns(turns), d_slot_index(first_slot)
{
    const size_t n_symbols = d_slots.front().symbols.size();
    if (turns.size() % n_symbols)
        throw std::invalid_argument("turns must be 14 of each slot, got " +
                                    std::to_string(turns.size()));
    set_tag_propagation_policy(TPP_DONT);
    set_output_multiple(static_cast<int>(n_symbols));
    set_relative_rate(n_symbols, d_shortest);
}

void slot_cutter_impl::forecast(int, gr_vector_int& ninput_items_required)
{
    std::fill(ninput_items_required.begin(), ninput_items_required.end(), d_needed);
}

int slot_cutter_impl::general_work(int noutput_items,
                                   gr_vector_int& ninput_items,
                                   gr_vector_const_void_star& input_items,
                                   gr_vector_void_star& output_items)
{
    const int n_symbols = static_cast<int>(slot().symbols.size());
    const int available = *std::min_element(ninput_items.begin(), ninput_items.end());
    std::vector<tag_t> tags;
    get_tags_in_window(tags, 0, 0, available);
    const auto indices = slot_indices(tags, nitems_read(0)); // of the slots that start here

    int read = 0, written = 0;
    d_needed = d_shortest;
    while (available - read >= d_shortest && noutput_items - written >= n_symbols) {
        if (const auto known = indices.find(read); known != indices.end())
            d_slot_index = known->second;
        if (available - read < slot().lookahead) {
            d_needed = slot().lookahead;
            break;
        }
        const auto next = indices.upper_bound(read);
        if (next != indices.end() && next->first < read + slot().length) {
            // the next slot starts early: samples of this one were lost
            d_dropped_samples += next->first - read;
            read = next->first;
            continue;
        }
        for (size_t antenna = 0; antenna < input_items.size(); antenna++) {
            const auto* in = static_cast<const gr_complex*>(input_items[antenna]) + read;
            auto* out = static_cast<gr_complex*>(output_items[antenna]) + written * d_fft.size();
            size_t turn = d_turns.empty() ? 0 : d_slot_index * n_symbols % d_turns.size();
            for (const int start : slot().windows) {
                d_fft(in + start, out);
                if (!d_turns.empty())
                    std::transform(out,
                                   out + d_fft.size(),
                                   out,
                                   [f = d_turns[turn++]](gr_complex x) { return x * f; });
                out += d_fft.size();
            }
        }
        tag_slot(tags, nitems_read(0) + read, nitems_written(0) + written);
        read += slot().length;
        d_slot_index++;
        written += n_symbols;
    }
    consume_each(read);
    return written;
}

//! The slot's own tags, and other tags on the symbol that they fall into.
void slot_cutter_impl::tag_slot(const std::vector<tag_t>& tags, uint64_t start, uint64_t offset)
{
    add_item_tag(0, offset, packet_len_key, pmt::from_long(slot().symbols.size()), alias_pmt());
    add_item_tag(0, offset, slot_index_key, pmt::from_uint64(d_slot_index), alias_pmt());
    for (tag_t tag : tags) {
        if (tag.offset < start || tag.offset >= start + slot().length ||
            pmt::eq(tag.key, packet_len_key) || pmt::eq(tag.key, slot_index_key))
            continue;
        tag.offset = offset + slot().symbol_of(static_cast<int>(tag.offset - start));
        add_item_tag(0, tag);
    }
}

} // namespace gr::deeprx
