/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_windows.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

using gr::deeprx::slot_windows;

BOOST_AUTO_TEST_SUITE(slot_windows_suite)

BOOST_DATA_TEST_CASE(windows_follow_their_prefixes,
                     boost::unit_test::data::make({ -6, -3, 0, 4, 64 }),
                     offset)
{
    const slot_windows slot(64, { 10, 6, 6 }, offset);
    BOOST_TEST(slot.length == 22 + 3 * 64);
    BOOST_TEST(slot.symbols == (std::vector<int>{ 0, 74, 144 }), boost::test_tools::per_element());
    BOOST_TEST(slot.windows == (std::vector<int>{ 10 + offset, 80 + offset, 150 + offset }),
               boost::test_tools::per_element());
    BOOST_TEST(slot.lookahead == slot.length + std::max(0, offset));
}

BOOST_AUTO_TEST_CASE(samples_belong_to_the_symbol_whose_prefix_came_last)
{
    const slot_windows slot(64, { 10, 6, 6 }, 0);
    for (const auto& [sample, symbol] :
         { std::pair(0, 0), { 73, 0 }, { 74, 1 }, { 143, 1 }, { 144, 2 }, { 213, 2 } })
        BOOST_TEST(slot.symbol_of(sample) == symbol);
}

BOOST_DATA_TEST_CASE(windows_outside_of_their_symbol_are_refused,
                     boost::unit_test::data::make({ -7, 65, 1000 }),
                     offset)
{
    check_raises<std::invalid_argument>(
        [&] {
            slot_windows(64, { 10, 6, 6 }, offset);
        },
        "must be -6 (the cyclic prefix) to 64, got " + std::to_string(offset));
}

BOOST_AUTO_TEST_SUITE_END()
