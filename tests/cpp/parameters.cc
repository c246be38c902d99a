/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "parameters.h"
#include "batch_sizes.h"
#include "cpu_instructions.h"
#include "raises.h"

#include "slot_of.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(parameters_suite)

namespace {

struct wrong {
    int n_rx;
    int threads;
    int max_batch;
    const char* engine;
    const char* words;
};

std::ostream& operator<<(std::ostream& out, const wrong& w) { return out << w.words; }

const wrong wrongs[]{ { 0, 1, 1, "auto", "n_rx must be 1 to 4, got 0" },
                      { 5, 1, 1, "auto", "n_rx must be 1 to 4, got 5" },
                      { 2, 0, 1, "auto", "threads must be 1 or more, got 0" },
                      { 2, 1, 0, "auto", "max_batch must be 1 to 256, got 0" },
                      { 2, 1, 257, "auto", "max_batch must be 1 to 256, got 257" },
                      { 2, 1, 1, "abacus", "got \"abacus\"" } };

} // namespace

BOOST_DATA_TEST_CASE(numbers_out_of_range_are_refused, boost::unit_test::data::make(wrongs), w)
{
    const auto slot = slot_of(6, "QPSK", { 2 }, 0);
    check_raises<std::invalid_argument>(
        [&] {
            check_range({ slot, w.n_rx, "cpu", w.threads, w.max_batch, w.engine });
        },
        w.words);
    check_range({ slot, 4, "cpu", 8, 256, "openvino" });
}

BOOST_AUTO_TEST_CASE(threads_are_one_number_as_long_as_anybody_claims_it)
{
    {
        const thread_claim one(2), two(2);
        check_raises<std::invalid_argument>([] { thread_claim other(3); },
                                            "another receiver in it has threads=2, got 3");
    }
    const thread_claim later(3);
    BOOST_CHECK(true);
}

BOOST_AUTO_TEST_CASE(float32_has_instructions_everywhere)
{
    BOOST_TEST(cpu_instructions_for("float32").native);
    BOOST_TEST(!cpu_instructions_for("float32").name.empty());
    BOOST_TEST(!cpu_has("warp_drive"));
    for (const char* precision : { "bfloat16", "int8" }) // its own, or those of float32
        BOOST_TEST((cpu_instructions_for(precision).native ||
                    cpu_instructions_for(precision).name == cpu_instructions_for("float32").name));
}

BOOST_AUTO_TEST_CASE(batches_are_greedy_and_bounded)
{
    const batch_sizes sizes(6);
    BOOST_TEST(sizes.all() == (std::vector<int>{ 1, 2, 4, 6 }), boost::test_tools::per_element());
    BOOST_TEST(batch_sizes(1).all() == (std::vector<int>{ 1 }), boost::test_tools::per_element());
    const std::vector<double> seconds{ 1.0, 2.0, 4.0, 3.0 };
    for (const auto& [waiting, most] :
         { std::pair(0, 1), { 1, 1 }, { 2, 2 }, { 3, 2 }, { 4, 4 }, { 5, 4 }, { 6, 6 }, { 99, 6 } })
        BOOST_TEST(sizes.most(waiting, seconds, 10.0) == most);
    BOOST_TEST(sizes.most(99, seconds, 3.5) == 6); // faster than a smaller one
    BOOST_TEST(sizes.most(5, seconds, 3.5) == 2);
    BOOST_TEST(sizes.most(99, seconds, 0.1) == 1); // one slot always
    for (const auto& [n, position] : { std::pair(1, 0), { 2, 1 }, { 3, 2 }, { 5, 3 }, { 6, 3 } })
        BOOST_TEST(sizes.position(n) == position);
}

BOOST_AUTO_TEST_SUITE_END()
