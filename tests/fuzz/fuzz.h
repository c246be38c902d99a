/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <pmt/pmt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace fuzz {

inline void expect(bool fine, const char* what)
{
    if (!fine) {
        std::fprintf(stderr, "expected: %s\n", what);
        std::abort();
    }
}

//! A refusal says why; any other exception is a fault. \return whether it was accepted
template <typename F>
bool accepts(F&& parse)
{
    try {
        parse();
        return true;
    } catch (const std::runtime_error& error) {
        expect(*error.what(), "words");
        return false;
    }
}

inline std::string_view text(const uint8_t* data, size_t size)
{
    return { reinterpret_cast<const char*>(data), size };
}

//! Values made of an input's bytes; zeros when they are used up.
class bytes
{
public:
    bytes(const uint8_t* data, size_t size) : d_left(text(data, size)) {}

    bool empty() const { return d_left.empty(); }

    template <typename T>
    T take()
    {
        T value{};
        const size_t n = std::min(sizeof(T), d_left.size());
        std::memcpy(&value, d_left.data(), n);
        d_left.remove_prefix(n);
        return value;
    }

    int below(int end) { return take<uint8_t>() % end; }

    std::string string()
    {
        const std::string value(d_left.substr(0, below(64)));
        d_left.remove_prefix(value.size());
        return value;
    }

    //! What a tag or a message may hold.
    pmt::pmt_t pmt(int depth = 0)
    {
        switch (below(depth < 4 ? 12 : 8)) {
        case 0:
            return pmt::from_uint64(take<uint64_t>());
        case 1:
            return pmt::from_long(take<int64_t>());
        case 2:
            return pmt::from_double(take<double>());
        case 3:
            return pmt::PMT_NIL;
        case 4:
            return pmt::PMT_T;
        case 5:
            return pmt::intern(string());
        case 6:
            return pmt::from_long(14);
        case 7:
            return pmt::mp("path");
        case 8:
            return pmt::cons(pmt(depth + 1), pmt(depth + 1));
        case 9:
            return pmt::make_tuple(pmt(depth + 1), pmt(depth + 1));
        case 10:
            return pmt::dict_add(pmt::make_dict(), pmt::mp("path"), pmt(depth + 1));
        default:
            return pmt::dict_add(
                pmt::dict_add(pmt::make_dict(), pmt::mp("at_slot"), pmt(depth + 1)),
                pmt(depth + 1),
                pmt(depth + 1));
        }
    }

private:
    std::string_view d_left;
};

} // namespace fuzz
