/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_swap.h"
#include "fake_engine.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(model_swap_suite)

namespace {

using namespace std::chrono_literals;

//! What loads may need, also when everything else is gone.
struct world {
    std::atomic<int> alive{ 0 }; // engines
    std::atomic<int> loads{ 0 };
    std::mutex mutex;
    std::condition_variable changed;
    int answers = 0;
    bool shut = false; // loads wait
    std::thread::id loader;
    int bad_jails = 0; // that cannot be renewed

    void wait_until(const std::function<bool()>& condition)
    {
        std::unique_lock<std::mutex> lock(mutex);
        BOOST_REQUIRE(changed.wait_for(lock, 20s, condition));
    }

    void set_shut(bool is_shut)
    {
        std::lock_guard<std::mutex> lock(mutex);
        shut = is_shut;
        changed.notify_all();
    }

    //! \param jailed a name that ends so
    std::unique_ptr<fake_engine> engine(const std::string& name)
    {
        auto engine = std::make_unique<fake_engine>(name, &alive);
        if (name.find("jailed") != std::string::npos)
            engine->renew = [this, name]() -> std::unique_ptr<gr::deeprx::engine> {
                if (bad_jails-- > 0)
                    throw std::runtime_error("it crashed");
                return this->engine(name);
            };
        return engine;
    }

    loaded_model model(const std::string& name) { return { engine(name), { 1e-3 } }; }

    loaded_model load(const std::string& name)
    {
        {
            std::unique_lock<std::mutex> lock(mutex);
            loader = std::this_thread::get_id();
            loads++;
            changed.notify_all();
            changed.wait(lock, [&] { return !shut; });
        }
        if (name.empty())
            throw std::runtime_error("no such model");
        return model(name);
    }
};

//! Models by name, and answers that can be waited for.
struct fixture {
    explicit fixture(const std::string& first = "first")
        : models(there->model(first), [there = there.get()] {
              std::lock_guard<std::mutex> lock(there->mutex);
              there->answers++;
              there->changed.notify_all();
          })
    {
    }

    void load(const std::string& name, uint64_t at_slot = 0)
    {
        models.load(
            name, [there = there, name] { return there->load(name); }, at_slot);
    }

    void wait_for(int n)
    {
        there->wait_until([&] { return there->answers >= n; });
    }

    std::string current() const { return models->engine->info().name; }

    //! Takes answers. \return the errors among them
    std::vector<std::string> errors()
    {
        std::vector<std::string> errors;
        for (const auto& answer : models.take_answers())
            if (!answer.model)
                errors.push_back(answer.line);
        return errors;
    }

    std::shared_ptr<world> there = std::make_shared<world>();
    model_swap models;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_model_takes_over_at_its_slot, fixture)
{
    load("second", 10);
    wait_for(1);
    BOOST_TEST(!models.due(10)); // nobody has taken the answer
    BOOST_TEST(models.answered());
    const auto taken = models.take_answers();
    BOOST_TEST(!models.answered());
    BOOST_REQUIRE(taken.size() == 1u);
    BOOST_TEST(taken[0].model->engine->info().name == "second");
    BOOST_CHECK(there->loader != std::this_thread::get_id());
    BOOST_TEST(!models.due(9));
    BOOST_TEST(models.due(10));
    BOOST_TEST(models.due(11));
    BOOST_TEST(current() == "first");
    models.change(10);
    BOOST_TEST(current() == "second");
    BOOST_TEST(!models.due(11));
    BOOST_TEST(models.take_answers().empty());
}

BOOST_FIXTURE_TEST_CASE(a_model_that_cannot_be_loaded_changes_nothing, fixture)
{
    load("second", 5);
    wait_for(1);
    load("");
    wait_for(2);
    const auto taken = models.take_answers();
    BOOST_REQUIRE(taken.size() == 2u);
    BOOST_TEST(!taken[1].model);
    BOOST_TEST(taken[1].line == "no such model");
    BOOST_TEST(!models.due(4)); // the one before waits on
    BOOST_TEST(models.due(5));
    BOOST_TEST(current() == "first");
}

BOOST_FIXTURE_TEST_CASE(of_several_the_last_is_next, fixture)
{
    int n = 0;
    for (const char* name : { "second", "third", "fourth" }) {
        load(name);
        wait_for(++n);
    }
    BOOST_TEST(models.take_answers().size() == 3u);
    models.change(0);
    BOOST_TEST(current() == "fourth");
    load("fifth"); // behind the destruction of the others, in order
    wait_for(4);
    BOOST_TEST(there->alive == 2);
}

BOOST_FIXTURE_TEST_CASE(a_request_replaces_the_one_that_waits, fixture)
{
    there->set_shut(true);
    load("second");
    there->wait_until([&] { return there->loads == 1; });
    for (int i = 0; i < 100; i++)
        load("model " + std::to_string(i));
    BOOST_TEST(there->loads == 1);
    wait_for(99); // answered at once
    const auto replaced = models.take_answers();
    BOOST_REQUIRE(replaced.size() == 99u);
    BOOST_CHECK(replaced[98].what == model_swap::event::replaced);
    BOOST_TEST(replaced[98].line == "model file 'model 98': replaced by a newer request");
    BOOST_TEST(replaced[98].path == "model 98");
    there->set_shut(false);
    wait_for(101);
    BOOST_TEST(there->loads == 2);
    BOOST_TEST(models.take_answers().size() == 2u);
    models.change(0);
    BOOST_TEST(current() == "model 99");
}

BOOST_AUTO_TEST_CASE(destruction_waits_for_no_load)
{
    std::vector<std::shared_ptr<world>> worlds;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 10; i++) {
        fixture f;
        f.there->set_shut(true);
        f.load("second");
        if (i % 2)
            f.there->wait_until([&] { return f.there->loads == 1; });
        f.load("third");
        worlds.push_back(f.there);
    }
    BOOST_CHECK(std::chrono::steady_clock::now() - start < 10s);
    for (const auto& there : worlds) {
        BOOST_TEST(there->alive == 0);
        there->set_shut(false);
    }
    for (int i = 1; i < 10; i += 2) {
        const auto& there = worlds[i];
        for (int ms = 0; ms < 20000 && there.use_count() > 1; ms++) // its load holds it
            std::this_thread::sleep_for(1ms);
        BOOST_TEST(there->loads == 1); // of the second; nobody loads the third
        BOOST_TEST(there->alive == 0);
        BOOST_TEST(there->answers <= 1); // that the second was replaced, if it was
    }
}

namespace {

struct losing : fixture {
    explicit losing(const std::string& first = "first, jailed") : fixture(first) {}

    void renew(std::chrono::milliseconds at)
    {
        models.renew(model_swap::clock::time_point(1h + at),
                     [](loaded_model& model) { model.batch_seconds = { 2e-3 }; });
    }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_lost_jail_is_renewed_once_a_second, losing)
{
    BOOST_TEST(!models.lost());
    renew(0ms);
    int answers = 0;
    for (const auto second : { 0ms, 1000ms, 2000ms }) {
        const auto* engine = models->engine.get();
        BOOST_TEST(models.lose());
        BOOST_TEST(!models.lose());
        BOOST_TEST(models.lost());
        if (second > 0ms)
            renew(second - 1ms); // too early
        BOOST_TEST(!models.due(0));
        renew(second);
        renew(second + 1ms); // nothing more while this one is made
        wait_for(++answers);
        BOOST_TEST(errors().empty());
        BOOST_TEST(models.due(0));
        BOOST_TEST(models.lost());
        models.change(0);
        BOOST_TEST(!models.lost());
        BOOST_TEST(!models.due(0));
        BOOST_TEST(models->engine.get() != engine);
        BOOST_TEST(models->batch_seconds[0] == 2e-3);
        BOOST_TEST(current() == "first, jailed");
    }
    models.lose();
    BOOST_CHECK_EXCEPTION(renew(60s), std::runtime_error, [](const auto& e) {
        return std::string(e.what()).find("there is no other model") != std::string::npos;
    });
}

BOOST_FIXTURE_TEST_CASE(jails_that_do_not_start_count, losing)
{
    there->bad_jails = 3;
    models.lose();
    for (int n = 0; n < 3; n++) {
        renew(n * 1s);
        wait_for(n + 1);
        const auto lines = errors();
        BOOST_REQUIRE(lines.size() == 1u);
        BOOST_TEST(lines[0] == "no fresh jail: it crashed");
        BOOST_TEST(!models.due(0));
    }
    BOOST_CHECK_THROW(renew(3s), std::runtime_error);
}

BOOST_DATA_TEST_CASE(the_model_before_receives_again,
                     boost::unit_test::data::make({ "first", "first, jailed" }),
                     first)
{
    losing f(first);
    f.load("second, jailed");
    f.wait_for(1);
    f.models.take_answers();
    f.models.change(0);
    BOOST_TEST(f.current() == "second, jailed");
    f.there->bad_jails = 3;
    f.models.lose();
    for (int n = 0; n < 3; n++) {
        f.renew(n * 1s);
        f.wait_for(n + 2);
        BOOST_TEST(f.errors().size() == 1u);
    }
    f.renew(3s);
    const auto lines = f.errors();
    BOOST_REQUIRE(lines.size() == 1u);
    BOOST_TEST(lines[0] ==
               "second, jailed: refused, since it has lost its jail and 3 fresh ones; " +
                   std::string(first) + " receives again");
    BOOST_TEST(f.models.due(0));
    f.models.change(0);
    BOOST_TEST(f.current() == first);
    BOOST_TEST(!f.models.lost());

    f.load("second, jailed"); // refused from now on
    f.wait_for(6);
    BOOST_TEST(f.errors().size() == 1u);
    BOOST_TEST(!f.models.due(0));
}

BOOST_DATA_TEST_CASE(however_many_are_lost_the_first_one_stays,
                     boost::unit_test::data::make({ "first", "first, jailed" }),
                     first)
{
    losing f(first);
    int answers = 0;
    for (const char* name : { "second, jailed", "third, jailed", "fourth, jailed" }) {
        f.load(name);
        f.wait_for(++answers);
        BOOST_TEST(f.errors().empty());
        f.models.change(0);
    }
    for (const char* after : { "third, jailed", first }) {
        f.there->bad_jails = 3;
        f.models.lose();
        for (int n = 0; n < 3; n++) {
            f.renew(n * 1s);
            f.wait_for(++answers);
            BOOST_TEST(f.errors().size() == 1u);
        }
        f.renew(3s);
        f.wait_for(++answers);
        BOOST_TEST(f.errors().size() == 1u);
        f.models.change(0);
        BOOST_TEST(f.current() == after);
    }
}

BOOST_FIXTURE_TEST_CASE(a_refused_file_is_not_returned_to, losing)
{
    int answers = 0;
    for (const char* name : { "second, jailed", "second, jailed" }) {
        load(name);
        wait_for(++answers);
        BOOST_TEST(errors().empty());
        models.change(0);
    }
    there->bad_jails = 3;
    models.lose();
    for (int n = 0; n < 3; n++) {
        renew(n * 1s);
        wait_for(++answers);
        BOOST_TEST(errors().size() == 1u);
    }
    renew(3s);
    models.change(0);
    BOOST_TEST(current() == "first, jailed");
}

BOOST_FIXTURE_TEST_CASE(another_model_ends_the_waiting_for_a_jail, losing)
{
    models.lose();
    renew(0ms);
    wait_for(1);
    load("second", 5);
    wait_for(2);
    BOOST_TEST(models.take_answers().size() == 1u);
    BOOST_TEST(models.due(4)); // the fresh jail
    models.change(5);          // both are: the newer one
    BOOST_TEST(current() == "second");
    BOOST_TEST(!models.lost());
    BOOST_TEST(!models.due(6));
    load("third");
    wait_for(3);
    BOOST_TEST(there->alive == 2); // no model is kept for one without a jail
}

BOOST_AUTO_TEST_SUITE_END()
