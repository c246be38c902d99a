/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_tags.h"
#include "pmt_values.h"
#include "slot_geometry.h"
#include "tags.h"

#include <algorithm>

namespace gr::deeprx {

std::map<int, uint64_t> slot_indices(const std::vector<tag_t>& tags, uint64_t first)
{
    std::map<int, uint64_t> indices;
    for (const auto& tag : tags)
        if (const auto index = to_unsigned(tag.value); index && pmt::eq(tag.key, slot_index_key))
            indices[static_cast<int>(tag.offset - first)] = *index;
    return indices;
}

void slot_tags::clear()
{
    d_lengths.clear();
    d_slot_index.reset();
}

void slot_tags::add(int stream,
                    uint64_t first,
                    const std::vector<tag_t>& tags,
                    std::vector<tag_t>& others)
{
    for (const tag_t& tag : tags) {
        if (pmt::eq(tag.key, d_length_key)) {
            const bool fits =
                pmt::is_integer(tag.value) && pmt::to_long(tag.value) == slot_geometry::n_symbols;
            d_lengths.push_back(
                { stream, static_cast<int>(tag.offset - first), fits ? "" : in_words(tag.value) });
            continue;
        }
        // the first: a torn slot is followed by another one's within the 14
        if (pmt::eq(tag.key, slot_index_key) && !d_slot_index)
            d_slot_index = to_unsigned(tag.value);
        const bool repeated = std::any_of(others.begin(), others.end(), [&](auto& other) {
            return pmt::eq(tag.key, other.key) && are_equal(tag.value, other.value);
        });
        if (stream == 0 || !repeated)
            others.push_back(tag);
    }
}

void slot_tags::to_llrs(std::vector<tag_t>& tags,
                        uint64_t offset,
                        uint64_t slot_index,
                        const pmt::pmt_t& length,
                        const pmt::pmt_t& source) const
{
    bool has_index = false;
    for (tag_t& tag : tags) {
        has_index |= pmt::eq(tag.key, slot_index_key);
        tag.offset = offset;
    }
    const auto add = [&](const pmt::pmt_t& key, const pmt::pmt_t& value) {
        tag_t& tag = tags.emplace_back();
        tag.offset = offset;
        tag.key = key;
        tag.value = value;
        tag.srcid = source;
    };
    if (!has_index)
        add(slot_index_key, pmt::from_uint64(slot_index));
    add(d_length_key, length);
}

} // namespace gr::deeprx
