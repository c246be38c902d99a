/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "numpy_random.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using gr::deeprx::numpy_random;

BOOST_AUTO_TEST_SUITE(numpy_random_suite)

//! What NumPy 1.24 gives for default_rng(entropy).random(3).
BOOST_AUTO_TEST_CASE(numbers_are_numpys)
{
    const auto check = [](numpy_random random, std::initializer_list<double> expected) {
        for (const double number : expected)
            BOOST_TEST(random() == number);
    };
    check(numpy_random({ 0 }),
          { 0x1.461fd79fb3850p-1, 0x1.1442f7e20b674p-2, 0x1.4fa7b529d9bd0p-5 });
    check(numpy_random({ 1, 2, 3 }),
          { 0x1.574823f1ed937p-1, 0x1.c6b7489df5020p-4, 0x1.05e484b8fc645p-1 });
    check(numpy_random({ 11, 0, uint64_t{ 1 } << 40 }),
          { 0x1.288d45bd702e5p-1, 0x1.1475fefd5efb5p-1, 0x1.bdbbdaf6462abp-1 });
    check(numpy_random({ 1, 2, 3, 4, 5, 6 }),
          { 0x1.3e5d36f6dc4cap-1, 0x1.e9114dcb6eb48p-4, 0x1.ad97b30bc6cc7p-1 });
}

BOOST_AUTO_TEST_SUITE_END()
