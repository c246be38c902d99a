/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "packet_finder.h"
#include "pmt_values.h"
#include "slot_tags.h"

#include <algorithm>

namespace gr::deeprx {

packet_finder::packet_finder(int length, const std::string& items, const pmt::pmt_t& length_key)
    : d_length(length), d_items(items), d_length_key(length_key)
{
}

void packet_finder::look(std::vector<tag_t> tags, uint64_t first, int available)
{
    d_tags = std::move(tags);
    d_first = first;
    d_available = available;
    d_read = 0;
    d_lengths.clear();
    d_indices = slot_indices(d_tags, first);
    for (const auto& tag : d_tags)
        if (pmt::eq(tag.key, d_length_key))
            d_lengths[static_cast<int>(tag.offset - first)] = to_unsigned(tag.value);
}

std::optional<packet_finder::packet>
packet_finder::next(const std::function<void(const std::string&)>& dropped)
{
    while (d_read < d_available) {
        const int at = d_read;
        const auto tagged = d_lengths.find(at);
        const auto following = d_lengths.upper_bound(at);
        const int end = following == d_lengths.end() ? d_available : following->first;
        std::string wrong;
        if (tagged == d_lengths.end())
            wrong = d_in_dropped ? "" : d_items + " without a length tag";
        else if (tagged->second != uint64_t(d_length))
            wrong = "a packet of " +
                    (tagged->second ? std::to_string(*tagged->second) : "an unknown number of") +
                    " " + d_items;
        else if (following != d_lengths.end() && end - at < d_length)
            wrong = "a packet that ends after " + std::to_string(end - at) + " " + d_items;
        else if (d_available - at < d_length)
            return std::nullopt;
        else {
            d_in_dropped = false;
            if (const auto index = d_indices.find(at); index != d_indices.end())
                d_next_index = index->second;
            d_read += d_length;
            return packet{ at, d_next_index++ };
        }
        d_in_dropped = true;
        d_read = end;
        if (!wrong.empty())
            dropped(wrong + ": expected packets of " + std::to_string(d_length) + " " + d_items +
                    ", tagged " + in_words(d_length_key));
    }
    return std::nullopt;
}

void packet_finder::put_back(const packet& packet)
{
    d_read = packet.at;
    d_next_index = packet.slot_index;
}

pmt::pmt_t packet_finder::tag(const packet& packet, const pmt::pmt_t& key) const
{
    const auto tag = std::find_if(d_tags.begin(), d_tags.end(), [&](const tag_t& t) {
        return t.offset == d_first + packet.at && pmt::eq(t.key, key);
    });
    return tag == d_tags.end() ? pmt::PMT_NIL : tag->value;
}

} // namespace gr::deeprx
