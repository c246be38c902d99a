/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <cstdint>

namespace gr::deeprx {

/*!
 * \brief Cyclic redundancy check of TS 38.212 clause 5.1, over whole bytes, most significant bit
 * first.
 */
class crc
{
public:
    crc(int bits, uint32_t polynomial); //!< without its highest power

    int bits() const { return d_bits; }
    uint32_t operator()(const uint8_t* bytes, size_t length) const;
    //! Writes the bits after \p length bytes.
    void append(uint8_t* bytes, size_t length) const;
    //! Of bytes whose last bits() are theirs.
    bool holds(const uint8_t* bytes, size_t length) const;

private:
    const int d_bits;
    uint32_t d_table[256];
};

extern const crc crc16, crc24a, crc24b;

} // namespace gr::deeprx
