/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "tags.h"

#include <gnuradio/tags.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gr::deeprx {

//! Finds packets of one length in a stream by their length tags, and numbers them.
class packet_finder
{
public:
    /*!
     * \param length items of a packet
     * \param items what they are, e.g. "bits"
     * \param length_key of the length tags
     */
    packet_finder(int length, const std::string& items, const pmt::pmt_t& length_key);

    struct packet {
        int at; // its first item
        uint64_t slot_index;
    };

    /*!
     * \brief Looks at what a call of work() is given.
     * \param first of the items, in the stream
     */
    void look(std::vector<tag_t> tags, uint64_t first, int available);

    /*!
     * \brief The next whole packet; none: no more now.
     * \param dropped is told what lies before it, and why it is no packet
     */
    std::optional<packet> next(const std::function<void(const std::string&)>& dropped);

    //! The packet that was given last is to be given again, in another call of work().
    void put_back(const packet& packet);

    //! Items of this call that need not be seen again.
    int read() const { return d_read; }

    //! Value of a tag on a packet's first item; nil: there is none.
    pmt::pmt_t tag(const packet& packet, const pmt::pmt_t& key) const;

private:
    const int d_length;
    const std::string d_items;
    const pmt::pmt_t d_length_key;

    std::vector<tag_t> d_tags;
    uint64_t d_first = 0;
    int d_available = 0, d_read = 0;
    std::map<int, std::optional<uint64_t>> d_lengths; // as tagged, none: with no number
    std::map<int, uint64_t> d_indices;
    uint64_t d_next_index = 0;
    bool d_in_dropped = false; // what follows without a tag belongs to the last drop
};

} // namespace gr::deeprx
