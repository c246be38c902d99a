/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "mcs.h"
#include "golden.h"
#include "raises.h"

#include <boost/test/unit_test.hpp>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(mcs_suite)

BOOST_AUTO_TEST_CASE(tables_and_block_sizes_are_those_of_sionna)
{
    for (const auto& row : sionna()["sizes"]) {
        BOOST_TEST_INFO(row.dump());
        const mcs m = mcs_of(row[0], row[1]);
        BOOST_TEST(m.bits_per_symbol == row[5].get<int>());
        BOOST_TEST(m.code_rate * 1024 == row[6].get<double>());
        BOOST_TEST(transport_block_size(row[2], row[3], m, row[4]) == row[7].get<int>());
    }
}

BOOST_AUTO_TEST_CASE(a_prb_counts_for_156_res_at_most)
{
    BOOST_TEST(transport_block_size(20, 168, { 4, 0.5 }) ==
               transport_block_size(20, 156, { 4, 0.5 }));
}

BOOST_AUTO_TEST_CASE(what_is_not_in_a_table_is_refused)
{
    using invalid = std::invalid_argument;
    check_raises<invalid>([] { mcs_of(0, 1); }, "MCS table must be 1, 2 or 3, got 0");
    check_raises<invalid>([] { mcs_of(1, 29); }, "MCS index of table 1 must be 0 to 28, got 29");
    check_raises<invalid>([] { mcs_of(2, 28); }, "MCS index of table 2 must be 0 to 27, got 28");
    check_raises<invalid>([] { mcs_of(3, -1); }, "MCS index of table 3 must be 0 to 28, got -1");
    check_raises<invalid>([] { transport_block_size(0, 1, { 2, 0.5 }); }, "number of PRBs");
    check_raises<invalid>([] { transport_block_size(1, 0, { 2, 0.5 }); }, "data REs in a PRB");
    check_raises<invalid>([] { transport_block_size(1, 1, { 2, 0.5 }, 0); }, "number of layers");
}

BOOST_AUTO_TEST_SUITE_END()
