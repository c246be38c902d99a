/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "pusch_kernel.h"

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

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
        : d_front(whole_vectors(reach)), d_pitch(odd_lines(d_front + n + reach + most_lanes))
    {
        const size_t bytes = sizeof(float) * (size_t(count) * d_pitch + d_front);
        const size_t whole = (bytes + 63) / 64 * 64;
        d_memory.reset(static_cast<float*>(std::aligned_alloc(64, whole)));
        if (!d_memory)
            throw std::bad_alloc();
        for (size_t i = 0; i < whole / sizeof(float); i++)
            d_memory.get()[i] = 0.0f;
    }

    float* operator[](int plane) const
    {
        return d_memory.get() + d_front + size_t(plane) * d_pitch;
    }
    int pitch() const { return d_pitch; }

private:
    //! Neighbouring planes must not lie at the same place of a page, which are a cache's neighbours
    static int odd_lines(int n) { return (whole_vectors(n) / most_lanes | 1) * most_lanes; }

    struct release {
        void operator()(float* memory) const { std::free(memory); }
    };
    int d_front, d_pitch;
    std::unique_ptr<float, release> d_memory;
};

} // namespace gr::deeprx
