/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace gr::deeprx {

/*!
 * \brief Zeros that begin a line of the cache, as vectors do.
 *
 * malloc() puts large memory 16 bytes behind a page's begin. To copy there from another page's
 * begin (shared memory, GNU Radio's buffers) takes memcpy() 16 times as long on an AMD Zen 3, whose
 * rep movsb does not bear that.
 */
class aligned_floats
{
public:
    explicit aligned_floats(size_t n)
    {
        constexpr size_t line = 64 / sizeof(float);
        const size_t whole = std::max<size_t>(1, (n + line - 1) / line) * line;
        d_memory.reset(static_cast<float*>(std::aligned_alloc(64, whole * sizeof(float))));
        if (!d_memory)
            throw std::bad_alloc();
        std::fill_n(d_memory.get(), whole, 0.0f);
    }

    float* data() const { return d_memory.get(); }

private:
    struct release {
        void operator()(float* memory) const { std::free(memory); }
    };
    std::unique_ptr<float, release> d_memory;
};

} // namespace gr::deeprx
