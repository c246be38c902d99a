/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "ldpc_code.h"

#include <algorithm>
#include <cmath>
#include <vector>

/*!
 * \brief Belief propagation as textbooks have it, and Sionna: all checks, then all bits, in
 * float32, messages of at most 20. What the decoder is measured against.
 */
class belief_propagation
{
public:
    belief_propagation(const gr::deeprx::ldpc_code& code, int iterations)
        : d_code(code), d_iterations(iterations)
    {
    }

    //! Whether the first k bits come out right. \param llr [n], positive for 0
    bool decodes(const float* llr, const uint8_t* bits)
    {
        constexpr float most = 20;
        const int z = d_code.lifting_size(), k = d_code.k();
        size_t n_rows = 4;
        for (int i = k; i < d_code.n(); i++)
            if (llr[i] != 0)
                n_rows = std::max<size_t>(n_rows, (i - k) / z + 1);
        std::vector<float> channel(llr, llr + d_code.n());
        for (float& x : channel)
            x = std::min(std::max(x, -most), most);
        std::vector<float> sums = channel, next;
        std::vector<std::vector<float>> messages;
        std::vector<float> t[19], before[19], after(z);
        for (int e = 0; e < 19; e++)
            t[e].resize(z), before[e].resize(z);
        for (int iteration = 0; iteration < d_iterations; iteration++) {
            next = channel;
            size_t at = 0;
            for (size_t r = 0; r < n_rows; r++) {
                const auto& row = d_code.rows()[r];
                if (iteration == 0)
                    messages.resize(at + row.size(), std::vector<float>(z));
                std::fill(before[0].begin(), before[0].end(), 1.0f);
                std::fill(after.begin(), after.end(), 1.0f);
                const int degree = static_cast<int>(row.size());
                for (int e = 0; e < degree; e++) {
                    const float* sum = &sums[row[e].column * z];
                    const float* message = messages[at + e].data();
                    float *to = t[e].data(), *product = before[e].data();
                    rotate(sum, to, row[e].shift);
                    for (int i = 0; i < z; i++) {
                        const float x = to[i] - message[i];
                        const float decay = std::exp(-std::min(std::abs(x), 16.6f));
                        to[i] = std::copysign((1 - decay) / (1 + decay), x); // tanh(x / 2)
                    }
                    if (e + 1 < degree)
                        for (int i = 0; i < z; i++)
                            before[e + 1][i] = product[i] * to[i];
                }
                for (int e = degree - 1; e >= 0; e--) {
                    float* message = messages[at + e].data();
                    for (int i = 0; i < z; i++) {
                        const float y = before[e][i] * after[i];
                        after[i] *= t[e][i];
                        const float size = std::abs(y);
                        const float x = std::log((1 + size) / (1 - size + 6e-8f));
                        message[i] = std::copysign(std::min(x, most), y);
                    }
                    float* sum = &next[row[e].column * z];
                    const int shift = row[e].shift;
                    for (int i = 0; i < z - shift; i++)
                        sum[i + shift] += message[i];
                    for (int i = z - shift; i < z; i++)
                        sum[i + shift - z] += message[i];
                }
                at += row.size();
            }
            sums.swap(next);
            bool right = true;
            for (int i = 0; i < k && right; i++)
                right = (sums[i] < 0) == (bits[i] != 0);
            if (right)
                return true;
        }
        return false;
    }

private:
    void rotate(const float* from, float* to, int shift) const
    {
        std::rotate_copy(from, from + shift, from + d_code.lifting_size(), to);
    }

    const gr::deeprx::ldpc_code& d_code;
    const int d_iterations;
};
