/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "crc.h"

namespace gr::deeprx {

const crc crc16(16, 0x1021), crc24a(24, 0x864cfb), crc24b(24, 0x800063);

crc::crc(int bits, uint32_t polynomial) : d_bits(bits)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t rest = byte << 24;
        for (int bit = 0; bit < 8; bit++)
            rest = rest << 1 ^ (rest >> 31) * (polynomial << (32 - bits));
        d_table[byte] = rest;
    }
}

uint32_t crc::operator()(const uint8_t* bytes, size_t length) const
{
    uint32_t rest = 0;
    for (size_t i = 0; i < length; i++)
        rest = rest << 8 ^ d_table[rest >> 24 ^ bytes[i]];
    return rest >> (32 - d_bits);
}

void crc::append(uint8_t* bytes, size_t length) const
{
    const uint32_t rest = (*this)(bytes, length);
    for (int left = d_bits - 8; left >= 0; left -= 8)
        bytes[length++] = rest >> left & 0xff;
}

bool crc::holds(const uint8_t* bytes, size_t length) const { return (*this)(bytes, length) == 0; }

} // namespace gr::deeprx
