/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "printable.h"
#include "model_rules.h"

#include <algorithm>
#include <cstdint>

namespace gr::deeprx {

namespace {

//! The bytes of the character that starts at \p i. \return 0: it is no UTF-8
size_t length_at(const std::string& text, size_t i, uint32_t& character)
{
    const auto byte = [&](size_t k) { return static_cast<uint8_t>(text[k]); };
    const uint8_t first = byte(i);
    const size_t length = first < 0x80           ? 1
                          : (first >> 5) == 0x6  ? 2
                          : (first >> 4) == 0xe  ? 3
                          : (first >> 3) == 0x1e ? 4
                                                 : 0;
    if (length == 0 || i + length > text.size())
        return 0;
    character = length == 1 ? first : first & (0x7f >> length);
    for (size_t k = 1; k < length; k++) {
        if (byte(i + k) >> 6 != 0x2)
            return 0;
        character = character << 6 | (byte(i + k) & 0x3f);
    }
    constexpr uint32_t smallest[]{ 0, 0, 0x80, 0x800, 0x10000 };
    const bool surrogate = character >> 11 == 0x1b;
    return character >= smallest[length] && character < 0x110000 && !surrogate ? length : 0;
}

bool is_space(uint32_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

//! Control and format characters, spaces but one, separators, what Unicode leaves to others.
bool is_unprintable(uint32_t c)
{
    const auto& ranges = rules().unprintable;
    return (c < ' ' || c > '~') &&
           std::any_of(ranges.begin(), ranges.end(), [c](const auto& range) {
               return c >= range.first && c <= range.second;
           });
}

} // namespace

std::string printable(const std::string& text, size_t most)
{
    std::string line;
    size_t last = 0; // where a line of most - 3 bytes can be cut
    bool space = false;
    for (size_t i = 0; i < text.size() && line.size() <= most;) {
        uint32_t character = 0;
        const size_t length = length_at(text, i, character);
        if (length && is_space(character)) {
            space = !line.empty();
            i++;
            continue;
        }
        if (space)
            line += ' ';
        space = false;
        if (line.size() + 3 <= most)
            last = line.size();
        line += length && !is_unprintable(character) ? text.substr(i, length) : "?";
        i += std::max<size_t>(length, 1);
    }
    if (line.size() <= most)
        return line;
    return line.substr(0, last) + "...";
}

bool has_printable_lines(const std::string& text)
{
    for (size_t i = 0; i < text.size();) {
        uint32_t character = 0;
        const size_t length = length_at(text, i, character);
        const bool is_line = character == '\n' || character == '\t';
        if (length == 0 || (!is_line && is_unprintable(character)))
            return false;
        i += length;
    }
    return true;
}

} // namespace gr::deeprx
