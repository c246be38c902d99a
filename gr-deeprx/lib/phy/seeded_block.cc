/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "seeded_block.h"
#include "gold_sequence.h"

namespace gr::deeprx {

namespace {

uint64_t splitmix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

} // namespace

std::vector<uint8_t> seeded_block(uint64_t seed, uint64_t slot_index, int port, int size)
{
    uint64_t key = splitmix64(splitmix64(seed) ^ slot_index);
    if (port)
        key = splitmix64(key ^ port);
    const auto bits = gold_sequence(key & 0x7fffffff, size);
    std::vector<uint8_t> bytes(size / 8);
    for (int i = 0; i < size; i++)
        bytes[i / 8] |= bits[i] << (7 - i % 8);
    return bytes;
}

} // namespace gr::deeprx
