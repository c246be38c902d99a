/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_finder.h"
#include "slot_geometry.h"

#include <algorithm>

namespace gr::deeprx {

slot_finder::place slot_finder::look(const std::vector<length_tag>& tags,
                                     std::optional<uint64_t> slot_index)
{
    constexpr int n_symbols = slot_geometry::n_symbols;
    const length_tag* start = nullptr;
    int next = n_symbols; // symbol of the next length tag of stream 0
    int misaligned = -1;  // stream
    for (const auto& tag : tags) {
        if (tag.stream == 0 && tag.symbol == 0)
            start = &tag;
        else if (tag.stream == 0)
            next = std::min(next, tag.symbol);
        else if (tag.symbol > 0)
            misaligned = tag.stream;
    }

    place here{ false, slot_index.value_or(d_next_index), next, "" };
    if (!start)
        here.dropped = d_searching ? "" : "no length tag on the first symbol";
    else if (!start->wrong.empty())
        here.dropped = "packet of " + start->wrong + " symbols, a slot has 14";
    else if (next < n_symbols)
        here.dropped = "length tag inside a slot, after " + std::to_string(next) + " symbols";
    else if (misaligned >= 0)
        here.dropped = "input " + std::to_string(misaligned) + " is not aligned to input 0";
    else
        here.is_slot = true;
    d_searching = !here.is_slot;
    if (start)
        d_next_index = here.slot_index + 1;
    return here;
}

} // namespace gr::deeprx
