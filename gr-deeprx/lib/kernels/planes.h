/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "aligned_floats.h"
#include "pusch_kernel.h"

#include <cstddef>

namespace gr::deeprx {

inline int whole_vectors(int n) { return (n + most_lanes - 1) / most_lanes * most_lanes; }

/*!
 * \brief Planes of float32 that kernels go through a vector at a time. Around the \p n positions of
 * each are zeros as far as its sums reach, and a vector more, which may be written.
 */
class planes
{
public:
    planes(int count, int n, int reach = 0)
        : d_front(whole_vectors(reach)), d_pitch(odd_lines(d_front + n + reach + most_lanes)),
          d_memory(size_t(count) * d_pitch + d_front)
    {
    }

    float* operator[](int plane) const
    {
        return d_memory.data() + d_front + size_t(plane) * d_pitch;
    }
    int pitch() const { return d_pitch; }

private:
    //! Neighbouring planes must not lie at the same place of a page, which are a cache's neighbours
    static int odd_lines(int n) { return (whole_vectors(n) / most_lanes | 1) * most_lanes; }

    int d_front, d_pitch;
    aligned_floats d_memory;
};

} // namespace gr::deeprx
