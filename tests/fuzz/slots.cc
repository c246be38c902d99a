/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "packet_finder.h"
#include "slot_finder.h"
#include "slot_geometry.h"
#include "slot_tags.h"
#include "tags.h"

#include <algorithm>
#include <vector>

using namespace gr::deeprx;

namespace {

const pmt::pmt_t keys[]{ packet_len_key, slot_index_key, pmt::mp("other") };

std::vector<gr::tag_t> tags_of(fuzz::bytes& from, int most, uint64_t first, int items)
{
    std::vector<gr::tag_t> tags(from.below(most));
    for (gr::tag_t& tag : tags) {
        tag.offset = first + from.below(items);
        tag.key = keys[from.below(3)];
        tag.value = from.pmt();
    }
    std::sort(tags.begin(), tags.end(), gr::tag_t::offset_compare);
    return tags;
}

//! A packet begins behind the one before it, and lies within what there is.
void find_packets(fuzz::bytes& from)
{
    const int length = 1 + from.below(16);
    packet_finder finder{ length, "bits", packet_len_key };
    for (uint64_t first = 0; !from.empty(); first += finder.read()) {
        const int available = 1 + from.below(64);
        finder.look(tags_of(from, 8, first, available), first, available);
        const auto dropped = [](const auto& why) { fuzz::expect(!why.empty(), "words"); };
        int end = 0;
        while (const auto packet = finder.next(dropped)) {
            fuzz::expect(packet->at >= end, "one behind the other");
            end = packet->at + length;
            fuzz::expect(end <= available && finder.read() == end, "a whole packet");
            finder.tag(*packet, slot_index_key);
        }
        fuzz::expect(finder.read() >= end && finder.read() <= available, "what there is");
        fuzz::expect(finder.read() > 0 || available < length, "to get on");
    }
}

/*
 * What a receiver relies on: it never moves by less than a symbol, nor by more than a slot.
 */
void find_slots(fuzz::bytes& from)
{
    slot_finder finder;
    slot_tags tags(packet_len_key);
    for (uint64_t first = 0; !from.empty();) {
        std::vector<gr::tag_t> others;
        tags.clear();
        for (int stream = 0; stream < 2; stream++) {
            const auto of_stream = tags_of(from, 5, first, slot_geometry::n_symbols);
            tags.add(stream, first, of_stream, others);
        }
        const auto index = tags.slot_index();
        const auto place = finder.look(tags.lengths(), index);
        fuzz::expect(place.symbols >= 1 && place.symbols <= slot_geometry::n_symbols, "1 to 14");
        fuzz::expect(!place.is_slot || place.symbols == slot_geometry::n_symbols, "a whole slot");
        fuzz::expect(!place.is_slot || place.dropped.empty(), "received or dropped, not both");
        fuzz::expect(!index || place.slot_index == *index, "the tagged index");
        if (place.is_slot)
            tags.to_llrs(others, first, place.slot_index, pmt::from_long(1), pmt::PMT_F);
        first += place.symbols;
    }
}

} // namespace

//! Tags of any kind on streams of symbols, and of what comes in packets.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    fuzz::bytes from(data, size);
    from.below(2) ? find_packets(from) : find_slots(from);
    return 0;
}
