/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <pmt/pmt.h>

#include <cstdint>
#include <optional>

namespace gr::deeprx {

inline const pmt::pmt_t packet_len_key = pmt::mp("packet_len");
inline const pmt::pmt_t slot_index_key = pmt::mp("slot_index");

//! None where it is no integer of 0 or more: anybody may tag a stream with anything.
inline std::optional<uint64_t> to_unsigned(const pmt::pmt_t& value)
{
    if (pmt::is_uint64(value))
        return pmt::to_uint64(value);
    if (pmt::is_integer(value) && pmt::to_long(value) >= 0)
        return static_cast<uint64_t>(pmt::to_long(value));
    return std::nullopt;
}

} // namespace gr::deeprx
