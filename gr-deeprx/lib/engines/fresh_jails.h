/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "model_info.h"

#include <chrono>
#include <string>

namespace gr::deeprx {

//! Those that a file has had which loses its jail: at most one a second, and three in all.
class fresh_jails
{
public:
    using clock = std::chrono::steady_clock;

    bool none_left() const { return d_had == most; }

    //! When the next one may be asked for.
    clock::time_point next() const { return d_next; }

    void take(clock::time_point now)
    {
        d_had++;
        d_next = now + std::chrono::seconds(1);
    }

    //! The line of a file that has had them all.
    static std::string refusal(const model_info& info)
    {
        return info.name + ": refused, since it has lost its jail and " + std::to_string(most) +
               " fresh ones";
    }

private:
    static constexpr int most = 3;

    int d_had = 0;
    clock::time_point d_next = clock::time_point::min();
};

} // namespace gr::deeprx
