/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fake_engine.h"
#include "raises.h"

#include "slot_of.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <sys/wait.h>
#include <unistd.h>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(engine_suite)

BOOST_AUTO_TEST_CASE(warming_up_runs_every_size_and_times_it)
{
    fake_engine engine;
    const auto seconds = engine.warm_up({ 1, 2, 5 });
    BOOST_TEST(seconds.size() == 3u);
    for (const double s : seconds)
        BOOST_TEST((s >= 0.0 && s < 1.0));
    for (const int size : { 1, 2, 5 }) // twice to compile, twice or more to time
        BOOST_TEST(std::count(engine.batches.begin(), engine.batches.end(), size) >= 4);
}

BOOST_AUTO_TEST_CASE(noise_fills_every_slot)
{
    const auto slot = slot_of(6, "QPSK", { 2 }, 3);
    const auto& of_slot = slot.pilots(0);
    std::vector<float> grids(3 * 2 * of_slot.size()), pilots(3 * of_slot.size());
    write_noise({ slot, 2, "cpu", 1, 3, "auto" }, grids.data(), pilots.data());
    BOOST_TEST(std::count(grids.begin(), grids.end(), 0.0f) < 3);
    for (int i = 0; i < 3; i++)
        BOOST_CHECK(std::equal(of_slot.begin(), of_slot.end(), &pilots[i * of_slot.size()]));
}

BOOST_AUTO_TEST_CASE(without_a_queue_a_batch_is_complete_when_submitted)
{
    fake_engine engine;
    BOOST_TEST(engine.depth() == 1);
    engine.submit(3);
    BOOST_TEST(engine.batches.back() == 3);
    BOOST_TEST(engine.collect() == engine.grid(0));
    BOOST_TEST(!engine.estimate(3).has_value());
}

BOOST_AUTO_TEST_CASE(a_fork_of_the_process_is_refused)
{
    expect_same_process();
    const pid_t child = fork();
    if (child == 0) {
        try {
            fake_engine().warm_up({ 1 });
        } catch (const std::runtime_error&) {
            _exit(7);
        }
        _exit(0);
    }
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 7));
}

BOOST_AUTO_TEST_SUITE_END()
