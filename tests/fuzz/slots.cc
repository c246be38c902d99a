/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "slot_finder.h"
#include "slot_geometry.h"
#include "slot_tags.h"
#include "tags.h"

#include <algorithm>
#include <vector>

/*
 * Tags of any kind on streams of symbols. What a receiver relies on: it never moves by less than a
 * symbol, nor by more than a slot.
 */
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    using namespace gr::deeprx;
    static const pmt::pmt_t keys[]{ packet_len_key, slot_index_key, pmt::mp("other") };
    fuzz::bytes from(data, size);
    slot_finder finder;
    slot_tags tags(packet_len_key);
    for (uint64_t first = 0; !from.empty();) {
        std::vector<gr::tag_t> others;
        tags.clear();
        for (int stream = 0; stream < 2; stream++) {
            std::vector<gr::tag_t> of_stream(from.below(5));
            for (gr::tag_t& tag : of_stream) {
                tag.offset = first + from.below(slot_geometry::n_symbols);
                tag.key = keys[from.below(3)];
                tag.value = from.pmt();
            }
            std::sort(of_stream.begin(), of_stream.end(), gr::tag_t::offset_compare);
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
    return 0;
}
