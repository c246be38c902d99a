/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <algorithm>
#include <vector>

namespace gr::deeprx {

//! The sizes of batch that an engine is warmed up for: the powers of two and the largest.
class batch_sizes
{
public:
    explicit batch_sizes(int max_batch)
    {
        for (int size = 1; size < max_batch; size *= 2)
            d_sizes.push_back(size);
        d_sizes.push_back(max_batch);
    }

    //! Ascending.
    const std::vector<int>& all() const { return d_sizes; }

    /*!
     * \brief The largest size that so many waiting slots fill and that takes no longer than
     * \p max_seconds; one slot always may.
     * \param seconds that each size takes
     */
    int most(int waiting, const std::vector<double>& seconds, double max_seconds) const
    {
        int size = 1;
        for (size_t i = 0; i < d_sizes.size(); i++)
            if (d_sizes[i] <= waiting && seconds[i] <= max_seconds)
                size = d_sizes[i];
        return size;
    }

    //! Of the smallest size that holds n slots, in all().
    int position(int n) const
    {
        return static_cast<int>(std::lower_bound(d_sizes.begin(), d_sizes.end(), n) -
                                d_sizes.begin());
    }

private:
    std::vector<int> d_sizes;
};

} // namespace gr::deeprx
