/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdlib>

namespace gr::deeprx {

/*!
 * Whether this process takes its processor for one that has AVX2 and nothing newer: where
 * `deeprx bench --avx2` has set the environment variable, beside those that libraries read.
 */
inline bool avx2_only()
{
    static const bool only = std::getenv("DEEPRX_AVX2_ONLY") != nullptr;
    return only;
}

} // namespace gr::deeprx
