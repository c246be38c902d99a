/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief Finds the slots in streams of OFDM symbols by their length tags, and numbers them.
 *
 * A slot starts where stream 0 has a tag that says 14, and has no other inside; the other streams
 * have theirs at the same symbol or none.
 */
class slot_finder
{
public:
    struct length_tag {
        int stream;
        int symbol;        // of the 14 that are looked at
        std::string wrong; // what it says, where that is not 14
    };

    struct place {
        bool is_slot;
        uint64_t slot_index;
        int symbols;         // from here to the next place to look at
        std::string dropped; // why it is no slot; empty: as the place before
    };

    /*!
     * \param tags of the next 14 symbols of all streams
     * \param slot_index as tagged there
     */
    place look(const std::vector<length_tag>& tags, std::optional<uint64_t> slot_index);

    //! Numbers the next slot without a tag.
    void expect(uint64_t slot_index) { d_next_index = slot_index; }

private:
    uint64_t d_next_index = 0;
    bool d_searching = false; // between slots, and reported so
};

} // namespace gr::deeprx
