/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "gold_sequence.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(gold_sequence_suite)

namespace {

//! TS 38.211 clause 5.2.1, as it is written there.
std::vector<uint8_t> gold(uint32_t c_init, int length)
{
    std::vector<uint8_t> x1(1600 + length + 31), x2(x1.size()), c(length);
    x1[0] = 1;
    for (int i = 0; i < 31; i++)
        x2[i] = c_init >> i & 1;
    for (int n = 0; n < 1600 + length; n++) {
        x1[n + 31] = (x1[n + 3] + x1[n]) % 2;
        x2[n + 31] = (x2[n + 3] + x2[n + 2] + x2[n + 1] + x2[n]) % 2;
    }
    for (int n = 0; n < length; n++)
        c[n] = (x1[n + 1600] + x2[n + 1600]) % 2;
    return c;
}

} // namespace

BOOST_DATA_TEST_CASE(sequence_is_that_of_the_standard,
                     boost::unit_test::data::make({ 0u, 1u, 0x2468aceu, 0x7fffffffu }),
                     c_init)
{
    BOOST_TEST(gold_sequence(c_init, 200) == gold(c_init, 200), boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(any_length_will_do,
                     boost::unit_test::data::make({ 0, 1, 24, 25, 26, 3001 }),
                     n)
{
    BOOST_TEST(gold_sequence(17, n) == gold(17, n), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(data_scrambling_starts_from_rnti_and_identity)
{
    BOOST_TEST(data_scrambling(0x4601, 1023, 100) == gold(0x4601 * 32768 + 1023, 100),
               boost::test_tools::per_element());
    check_raises<std::invalid_argument>([] { data_scrambling(65536, 0, 1); },
                                        "rnti must be 0 to 65535, got 65536");
    check_raises<std::invalid_argument>([] { data_scrambling(0, -1, 1); },
                                        "n_id must be 0 to 1023, got -1");
}

BOOST_AUTO_TEST_SUITE_END()
