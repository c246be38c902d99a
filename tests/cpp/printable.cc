/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "printable.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using gr::deeprx::printable;

BOOST_AUTO_TEST_SUITE(printable_suite)

namespace {

struct text {
    std::string from, to;
};

std::ostream& operator<<(std::ostream& out, const text& t) { return out << t.to; }

const text texts[]{
    { "", "" },
    { "model file 'm.pt'", "model file 'm.pt'" },
    { " two\n lines\t\r\n", "two lines" },
    { "\x1b[31mred\x07", "?[31mred?" },
    { std::string("a\0b", 3), "a?b" },
    { "K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x93\xa1", "K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x93\xa1" },
    { "\xc2\x9b", "?" }, // CSI in one character
    { "\x9b", "?" },     // and in one byte
    { "\xe2\x80\xae"
      "cba",
      "?cba" }, // turns the direction
    { "\xc3", "?" },
    { "\xc3(", "?(" },
    { "\xc0\x80", "??" },           // overlong
    { "\xed\xa0\x80", "???" },      // a surrogate
    { "\xf4\x90\x80\x80", "????" }, // beyond Unicode
    { "\x7f", "?" },
};

} // namespace

BOOST_DATA_TEST_CASE(a_line_that_no_terminal_obeys, boost::unit_test::data::make(texts), sample)
{
    BOOST_TEST(printable(sample.from) == sample.to);
}

BOOST_AUTO_TEST_CASE(a_long_text_is_cut_between_characters)
{
    BOOST_TEST(printable("12345678", 8) == "12345678");
    BOOST_TEST(printable("123456789", 8) == "12345...");
    BOOST_TEST(printable("1234\xe2\x82\xac"
                         "789",
                         8) == "1234...");
    BOOST_TEST(printable(std::string(10'000'000, 'x')).size() == 1000u);
    for (const std::string& character :
         { "x", "\xc3\xb6", "\xe2\x82\xac", "\xf0\x9f\x93\xa1", "\x1b" }) {
        std::string many;
        for (int i = 0; i < 100; i++)
            many += character;
        for (size_t most = 3; most < 30; most++) {
            const auto line = printable(many, most);
            BOOST_TEST(line.size() <= most);
            BOOST_TEST(printable(line, most) == line);
        }
    }
}

BOOST_AUTO_TEST_SUITE_END()
