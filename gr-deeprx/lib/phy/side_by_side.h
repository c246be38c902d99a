/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

namespace gr::deeprx {

//! term(0) + ... + term(n - 1), some side by side: in their order, a compiler may add one at a
//! time.
template <class of>
inline float sum_side_by_side(int n, const of& term)
{
    constexpr int lanes = 16;
    float sums[lanes]{}, whole = 0.0f;
    int i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int k = 0; k < lanes; k++)
            sums[k] += term(i + k);
    for (; i < n; i++)
        whole += term(i);
    for (const float sum : sums)
        whole += sum;
    return whole;
}

} // namespace gr::deeprx
