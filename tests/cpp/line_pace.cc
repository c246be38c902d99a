/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "line_pace.h"

#include <boost/test/unit_test.hpp>

using namespace gr::deeprx;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(line_pace_suite)

BOOST_AUTO_TEST_CASE(one_line_a_second_counts_all)
{
    line_pace lines;
    const line_pace::clock::time_point start(1h);
    BOOST_TEST(lines.count(start) == 1u);
    for (int i = 1; i < 10; i++)
        BOOST_TEST(lines.count(start + i * 100ms) == 0u);
    BOOST_TEST(lines.count(start + 1s) == 10u);
    BOOST_TEST(lines.count(start + 1999ms) == 0u);
    BOOST_TEST(lines.count(start + 60s) == 2u);
}

BOOST_AUTO_TEST_SUITE_END()
