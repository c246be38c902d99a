/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "stage_clock.h"
#include "plane_sum.h"
#include "pusch_stages.h"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <thread>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(stage_clock_suite)

BOOST_AUTO_TEST_CASE(a_stage_is_without_those_in_it)
{
    stage_clock clock;
    const auto wait = [](int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
    for (int i = 0; i < 2; i++) {
        const stage_clock::scope outer(&clock, "outer");
        wait(10);
        const stage_clock::scope inner(&clock, "inner", [] { return stage_cost{ 3, 4, "int8" }; });
        wait(20);
    }
    {
        const stage_clock::scope inner(&clock, "inner");
    }
    const auto stages = clock.stages();
    BOOST_REQUIRE(stages.size() == 3);
    BOOST_TEST(stages[0].name == "outer");
    BOOST_TEST(stages[0].calls == 2);
    BOOST_TEST(stages[0].seconds >= 0.019);
    BOOST_TEST(stages[1].name == "outer: inner");
    BOOST_TEST(stages[0].precision == "float32");
    BOOST_TEST(stages[1].precision == "int8");
    BOOST_TEST(stages[1].flop == 6);
    BOOST_TEST(stages[1].bytes == 8);
    BOOST_TEST(stages[1].seconds >= 0.039);
    BOOST_TEST(stages[2].name == "inner"); // of its own
    BOOST_TEST(stages[2].calls == 1);
    BOOST_TEST(stages[2].seconds < 0.019);
}

BOOST_AUTO_TEST_CASE(without_a_clock_nothing_is_counted)
{
    const stage_clock::scope scope(nullptr, "nothing", [] {
        BOOST_ERROR("counted");
        return stage_cost{};
    });
}

BOOST_AUTO_TEST_CASE(a_convolution_costs_its_weights_and_planes)
{
    const layer l{ 7, 4, 3, 3, std::vector<float>(7 * 4 * 9, 1.0f), std::vector<float>(7) };
    const plane_sum floats(l, 64, 10), pairs(l, 64, 10, 2), quads(l, 64, 10, 4);
    auto job = floats.job(nullptr, nullptr, 64, 50, nullptr);
    BOOST_TEST(cost_of(job, 1, 1).flop == 2 * 50 * 7 * 4 * 9);
    BOOST_TEST(cost_of(job, 1, 1).bytes == 4 * (50 * (4 + 7) + 7 * 4 * 9 + 7));
    job = pairs.job(nullptr, nullptr, 64, 50, nullptr);
    BOOST_TEST(cost_of(job, 2, 2).flop == 2 * 50 * 7 * 4 * 9);
    BOOST_TEST(cost_of(job, 2, 2).bytes == 4 * (50 * (2 + 7 / 2.0) + 7 * 2 * 9 + 7));
    BOOST_TEST(cost_of(job, 2, 2).precision == "bfloat16");
    job = quads.job(nullptr, nullptr, 64, 50, nullptr);
    BOOST_TEST(cost_of(job, 4, 1).flop == 2 * 50 * 7 * 4 * 9);
    BOOST_TEST(cost_of(job, 4, 1).bytes == 4 * (50 * (1 + 7) + 7 * 9 + 7));
    BOOST_TEST(cost_of(job, 4, 1).precision == "int8");
}

BOOST_AUTO_TEST_SUITE_END()
