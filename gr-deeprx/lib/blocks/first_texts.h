/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <mutex>
#include <set>
#include <string>

namespace gr::deeprx {

//! The first different texts of those that strangers choose, for what would keep each for ever.
class first_texts
{
public:
    static constexpr size_t most = 256;

    enum class place { added, known, none_left };

    place put(const std::string& text)
    {
        std::lock_guard<std::mutex> lock(d_mutex);
        if (d_texts.count(text))
            return place::known;
        if (d_texts.size() == most)
            return place::none_left;
        d_texts.insert(text);
        return place::added;
    }

private:
    std::mutex d_mutex;
    std::set<std::string> d_texts;
};

} // namespace gr::deeprx
