/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>
#include <vector>

//! What Sionna gives: golden/make_sionna_codec.py.
inline const nlohmann::json& sionna()
{
    static const auto golden = nlohmann::json::parse(std::ifstream(GOLDEN "/sionna_codec.json"));
    return golden;
}

//! Bits, one a byte, of hexadecimal digits, most significant first.
inline std::vector<uint8_t> bits_of(const std::string& hex, size_t n)
{
    std::vector<uint8_t> bits;
    for (const char digit : hex)
        for (int bit = 3; bit >= 0; bit--)
            bits.push_back(std::stoi(std::string(1, digit), nullptr, 16) >> bit & 1);
    bits.resize(n);
    return bits;
}
