/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "numpy_random.h"

#include <array>
#include <cstddef>
#include <vector>

namespace gr::deeprx {

namespace {

//! Multiplies by a constant that changes with every use.
class hash
{
public:
    hash(uint32_t start, uint32_t multiplier) : d_constant(start), d_multiplier(multiplier) {}

    uint32_t operator()(uint32_t value)
    {
        value ^= d_constant;
        d_constant *= d_multiplier;
        value *= d_constant;
        return value ^ value >> 16;
    }

private:
    uint32_t d_constant;
    const uint32_t d_multiplier;
};

uint32_t mix(uint32_t x, uint32_t y)
{
    const uint32_t mixed = 0xca01f9dd * x - 0x4973f715 * y;
    return mixed ^ mixed >> 16;
}

} // namespace

numpy_random::numpy_random(std::initializer_list<uint64_t> entropy)
{
    std::vector<uint32_t> words; // as many of each number as it needs
    for (const uint64_t number : entropy) {
        words.push_back(static_cast<uint32_t>(number));
        if (number >> 32)
            words.push_back(static_cast<uint32_t>(number >> 32));
    }

    std::array<uint32_t, 4> pool;
    hash in(0x43b0d7e5, 0x931e8875);
    for (std::size_t i = 0; i < pool.size(); i++)
        pool[i] = in(i < words.size() ? words[i] : 0);
    for (std::size_t from = 0; from < pool.size(); from++)
        for (std::size_t to = 0; to < pool.size(); to++)
            if (from != to)
                pool[to] = mix(pool[to], in(pool[from]));
    for (std::size_t from = pool.size(); from < words.size(); from++)
        for (uint32_t& to : pool)
            to = mix(to, in(words[from]));

    hash out(0x8b51f9dd, 0x58f38ded);
    std::array<uint64_t, 4> seed;
    for (std::size_t i = 0; i < seed.size(); i++) {
        const uint64_t low = out(pool[2 * i % 4]);
        seed[i] = low | static_cast<uint64_t>(out(pool[(2 * i + 1) % 4])) << 32;
    }
    d_increment = (static_cast<uint128>(seed[2]) << 64 | seed[3]) << 1 | 1;
    d_state = 0;
    step();
    d_state += static_cast<uint128>(seed[0]) << 64 | seed[1];
    step();
}

double numpy_random::operator()()
{
    step();
    const auto high = static_cast<uint64_t>(d_state >> 64);
    const uint64_t folded = high ^ static_cast<uint64_t>(d_state);
    const unsigned turn = high >> 58;
    return ((folded >> turn | folded << (-turn & 63)) >> 11) * 0x1p-53;
}

void numpy_random::step()
{
    constexpr uint128 multiplier =
        static_cast<uint128>(2549297995355413924u) << 64 | 4865540595714422341u;
    d_state = d_state * multiplier + d_increment;
}

} // namespace gr::deeprx
