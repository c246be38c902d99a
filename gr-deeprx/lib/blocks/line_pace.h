/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

namespace gr::deeprx {

//! Counts what may happen often, so that one line a second speaks of all of it.
class line_pace
{
public:
    using clock = std::chrono::steady_clock;

    //! Counts one more. \return how many since the last line, if the next one is due; else 0
    uint64_t count(clock::time_point now = clock::now())
    {
        d_since_line++;
        if (now - d_line < std::chrono::seconds(1))
            return 0;
        d_line = now;
        return std::exchange(d_since_line, 0);
    }

private:
    clock::time_point d_line{};
    uint64_t d_since_line = 0;
};

} // namespace gr::deeprx
