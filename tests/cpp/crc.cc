/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "crc.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>
#include <vector>

using gr::deeprx::crc;

BOOST_AUTO_TEST_SUITE(crc_suite)

namespace {

struct code {
    const crc& check;
    std::vector<int> powers; // TS 38.212 clause 5.1
};

std::ostream& operator<<(std::ostream& out, const code& c)
{
    return out << "CRC" << c.check.bits();
}

const code codes[]{
    { gr::deeprx::crc16, { 16, 12, 5, 0 } },
    { gr::deeprx::crc24a, { 24, 23, 18, 17, 14, 11, 10, 7, 6, 5, 4, 3, 1, 0 } },
    { gr::deeprx::crc24b, { 24, 23, 6, 5, 1, 0 } },
};

//! Remainder of the long division as the standard has it, bit by bit.
uint32_t remainder(const std::vector<uint8_t>& bytes, const std::vector<int>& powers)
{
    const int degree = powers.front();
    std::vector<int> bits;
    for (const uint8_t byte : bytes)
        for (int bit = 7; bit >= 0; bit--)
            bits.push_back(byte >> bit & 1);
    bits.resize(bits.size() + degree);
    for (size_t i = 0; i + degree < bits.size(); i++)
        if (bits[i])
            for (const int power : powers)
                bits[i + degree - power] ^= 1;
    uint32_t rest = 0;
    for (size_t i = bits.size() - degree; i < bits.size(); i++)
        rest = rest << 1 | bits[i];
    return rest;
}

} // namespace

BOOST_DATA_TEST_CASE(remainders_are_those_of_the_division, boost::unit_test::data::make(codes), c)
{
    std::vector<uint8_t> bytes{ 0x12, 0x34, 0x56, 0x00, 0xff, 0x81, 0x7e };
    BOOST_TEST(c.check(bytes.data(), bytes.size()) == remainder(bytes, c.powers));
    const size_t length = bytes.size();
    bytes.resize(length + c.check.bits() / 8);
    c.check.append(bytes.data(), length);
    BOOST_TEST(c.check.holds(bytes.data(), bytes.size()));
    for (size_t bit = 0; bit < 8 * bytes.size(); bit++) {
        bytes[bit / 8] ^= 1 << bit % 8;
        BOOST_TEST(!c.check.holds(bytes.data(), bytes.size()));
        bytes[bit / 8] ^= 1 << bit % 8;
    }
}

BOOST_AUTO_TEST_SUITE_END()
