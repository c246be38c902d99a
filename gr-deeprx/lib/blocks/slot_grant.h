/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <pmt/pmt.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace gr::deeprx {

//! How a slot's transport block is sent.
struct slot_grant {
    int rnti;
    int process = 0; // of HARQ
    int rv = 0;
    bool new_data = true;

    bool operator==(const slot_grant& other) const
    {
        return rnti == other.rnti && process == other.process && rv == other.rv &&
               new_data == other.new_data;
    }

    /*!
     * \brief Takes over what is given, in a dictionary or in tags: anybody may give anything.
     * \param value of a key; nil: not given
     * \throws std::invalid_argument with one line, if something is out of range or of another type
     */
    void read(const std::function<pmt::pmt_t(const pmt::pmt_t& key)>& value);

    //! Gives each of its keys and values, as read() takes them.
    void each(const std::function<void(const pmt::pmt_t& key, const pmt::pmt_t& value)>& use) const;

    //! A dictionary of them and the slot's index.
    pmt::pmt_t to_dictionary(uint64_t slot_index) const;
};

//! A transport block that somebody sends, and how.
struct granted_block {
    slot_grant grant;
    std::vector<uint8_t> bytes;
};

/*!
 * \brief Reads a message that brings one: a pair of a dictionary and bytes.
 * \param usual what the dictionary does not say
 * \throws std::invalid_argument with one line
 */
granted_block to_granted_block(const pmt::pmt_t& message, size_t n_bytes, const slot_grant& usual);

} // namespace gr::deeprx
