/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "gold_sequence.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

namespace {

constexpr int skipped = 1600;
constexpr int step = 25; // bits at a time: at most 28, as far as feedback reaches back
constexpr int most_length = 1 << 30;
static_assert(skipped % step == 0);

uint32_t advance(uint32_t state, uint32_t sum) // bit i holds x(n + i), of 31
{
    constexpr uint32_t mask = (1u << step) - 1;
    return state >> step | (sum & mask) << (31 - step);
}

} // namespace

std::vector<uint8_t> gold_sequence(uint32_t c_init, int length)
{
    if (length < 0 || length > most_length)
        throw std::invalid_argument("a sequence has 0 to " + std::to_string(most_length) +
                                    " bits, got " + std::to_string(length));
    uint32_t x1 = 1, x2 = c_init & 0x7fffffff;
    const auto next = [&] {
        x1 = advance(x1, x1 ^ x1 >> 3);
        x2 = advance(x2, x2 ^ x2 >> 1 ^ x2 >> 2 ^ x2 >> 3);
    };
    for (int n = 0; n < skipped; n += step)
        next();
    std::vector<uint8_t> c((length + step - 1) / step * step);
    for (auto at = c.begin(); at != c.end(); at += step, next()) {
        const uint32_t bits = x1 ^ x2;
        for (int i = 0; i < step; i++)
            at[i] = bits >> i & 1;
    }
    c.resize(length);
    return c;
}

std::vector<uint8_t> data_scrambling(int rnti, int n_id, int length)
{
    const auto expect = [](const char* name, int value, int most) {
        if (value < 0 || value > most)
            throw std::invalid_argument(std::string(name) + " must be 0 to " +
                                        std::to_string(most) + ", got " + std::to_string(value));
    };
    expect("rnti", rnti, 65535);
    expect("n_id", n_id, 1023);
    return gold_sequence(uint32_t(rnti) << 15 | uint32_t(n_id), length);
}

} // namespace gr::deeprx
