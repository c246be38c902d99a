/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_swap.h"
#include "fake_engine.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <condition_variable>
#include <thread>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(model_swap_suite)

namespace {

//! Models by name, and answers that can be waited for.
struct fixture {
    fixture() : models(model("first")) {}

    loaded_model model(const std::string& name)
    {
        return { std::make_unique<fake_engine>(name, &alive), { 1e-3 } };
    }

    void load(const std::string& name, uint64_t at_slot)
    {
        models.load(
            [this, name] {
                loader = std::this_thread::get_id();
                if (name.empty())
                    throw std::runtime_error("no such model");
                return model(name);
            },
            at_slot,
            [this] {
                std::lock_guard<std::mutex> lock(mutex);
                answers++;
                changed.notify_all();
            });
    }

    void wait_for(int n)
    {
        std::unique_lock<std::mutex> lock(mutex);
        BOOST_REQUIRE(
            changed.wait_for(lock, std::chrono::seconds(20), [&] { return answers >= n; }));
    }

    std::string current() const { return models->engine->info().name; }

    std::atomic<int> alive{ 0 };
    std::mutex mutex;
    std::condition_variable changed;
    int answers = 0;
    std::thread::id loader;
    model_swap models;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_model_takes_over_at_its_slot, fixture)
{
    load("second", 10);
    wait_for(1);
    BOOST_TEST(!models.due(10)); // nobody has taken the answer
    const auto taken = models.take_answers();
    BOOST_REQUIRE(taken.size() == 1u);
    BOOST_TEST(taken[0].model->engine->info().name == "second");
    BOOST_CHECK(loader != std::this_thread::get_id());
    BOOST_TEST(!models.due(9));
    BOOST_TEST(models.due(10));
    BOOST_TEST(models.due(11));
    BOOST_TEST(current() == "first");
    models.change();
    BOOST_TEST(current() == "second");
    BOOST_TEST(!models.due(11));
    BOOST_TEST(models.take_answers().empty());
}

BOOST_FIXTURE_TEST_CASE(a_model_that_cannot_be_loaded_changes_nothing, fixture)
{
    load("second", 5);
    load("", 0);
    wait_for(2);
    const auto taken = models.take_answers();
    BOOST_REQUIRE(taken.size() == 2u);
    BOOST_TEST(!taken[1].model);
    BOOST_TEST(taken[1].error == "no such model");
    BOOST_TEST(!models.due(4)); // the one before waits on
    BOOST_TEST(models.due(5));
    BOOST_TEST(current() == "first");
}

BOOST_FIXTURE_TEST_CASE(of_several_the_last_is_next, fixture)
{
    for (const char* name : { "second", "third", "fourth" })
        load(name, 0);
    wait_for(3);
    BOOST_TEST(models.take_answers().size() == 3u);
    models.change();
    BOOST_TEST(current() == "fourth");
    load("fifth", 0); // behind the destruction of the first, in order
    wait_for(4);
    BOOST_TEST(alive == 2);
}

BOOST_AUTO_TEST_CASE(destruction_waits_for_a_model_that_loads)
{
    for (int i = 0; i < 20; i++) {
        fixture f;
        f.load("second", 0);
    }
    BOOST_CHECK(true);
}

BOOST_AUTO_TEST_SUITE_END()
