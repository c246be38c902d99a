/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_code.h"
#include "golden.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <random>

using gr::deeprx::ldpc_code;

BOOST_AUTO_TEST_SUITE(ldpc_code_suite)

namespace {

const int sizes[]{ 2, 3, 5, 7, 9, 11, 13, 15, 16, 36, 112, 144, 176, 208, 240, 288, 320, 384 };

} // namespace

BOOST_DATA_TEST_CASE(every_check_of_an_encoded_word_holds,
                     boost::unit_test::data::make({ 1, 2 }) * boost::unit_test::data::make(sizes),
                     graph,
                     size)
{
    const ldpc_code code(graph, size);
    BOOST_TEST(code.n() == (graph == 1 ? 68 : 52) * size);
    std::mt19937 random(size);
    std::vector<uint8_t> bits(code.n());
    for (int i = 0; i < code.k(); i++)
        bits[i] = random() & 1;
    code.encode(bits.data());
    for (const auto& row : code.rows())
        for (int z = 0; z < size; z++) {
            int sum = 0;
            for (const auto& [column, shift] : row)
                sum ^= bits[column * size + (z + shift) % size];
            BOOST_REQUIRE(sum == 0);
        }
}

BOOST_AUTO_TEST_CASE(another_code_is_refused)
{
    check_raises<std::invalid_argument>([] { ldpc_code(3, 384); }, "base graph must be 1 or 2");
    for (const int size : { 0, 1, 17, 23, 385, 768 })
        check_raises<std::invalid_argument>([size] { ldpc_code(1, size); },
                                            "got " + std::to_string(size));
}

BOOST_AUTO_TEST_SUITE_END()
