/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "slot_finder.h"

#include <gnuradio/tags.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace gr::deeprx {

//! Indices that tags of a stream give to its slots, by their places from item \p first on.
std::map<int, uint64_t> slot_indices(const std::vector<tag_t>& tags, uint64_t first);

//! Tags of the 14 symbols that may be a slot: some find and number it, others travel with its LLRs.
class slot_tags
{
public:
    //! \param length_key of the length tags, in and out
    explicit slot_tags(const pmt::pmt_t& length_key) : d_length_key(length_key) {}

    //! Looks at other symbols.
    void clear();

    /*!
     * \brief Adds a stream's.
     * \param first item of the 14
     * \param others gets those that are no length tags; one that another stream has, too, once
     */
    void
    add(int stream, uint64_t first, const std::vector<tag_t>& tags, std::vector<tag_t>& others);

    const std::vector<slot_finder::length_tag>& lengths() const { return d_lengths; }
    std::optional<uint64_t> slot_index() const { return d_slot_index; }

    /*!
     * \brief Makes a slot's other tags those of its LLRs: adds the length, and the index where it
     * is missing.
     * \param offset of the first LLR
     * \param source of what is added
     */
    void to_llrs(std::vector<tag_t>& tags,
                 uint64_t offset,
                 uint64_t slot_index,
                 const pmt::pmt_t& length,
                 const pmt::pmt_t& source) const;

private:
    const pmt::pmt_t d_length_key;
    std::vector<slot_finder::length_tag> d_lengths;
    std::optional<uint64_t> d_slot_index;
};

} // namespace gr::deeprx
