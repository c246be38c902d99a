/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_threads.h"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <set>
#include <sys/wait.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(slot_threads_suite)

namespace {

double cpu_s()
{
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

//! Holds whoever comes until so many are there at once, or seconds have passed.
class meeting
{
public:
    explicit meeting(int n) : d_missing(n) {}
    bool meet()
    {
        d_missing--;
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (d_missing > 0 && std::chrono::steady_clock::now() < end)
            std::this_thread::yield();
        return d_missing <= 0;
    }

private:
    std::atomic<int> d_missing;
};

} // namespace

BOOST_AUTO_TEST_CASE(every_slot_is_done_once_and_several_at_a_time)
{
    slot_threads threads(3);
    for (int n_slots : { 1, 2, 3, 16, 1, 7 }) {
        std::vector<std::atomic<int>> done(n_slots);
        std::vector<std::atomic<int>> busy(3);
        std::atomic<bool> alone{ true };
        threads.run(n_slots, [&](int thread, int slot) {
            alone = alone && busy[thread]++ == 0; // each has a receiver of its own
            done[slot]++;
            busy[thread]--;
        });
        for (const auto& times : done)
            BOOST_TEST(times == 1);
        BOOST_TEST(alone);
    }
    for (int time = 0; time < 3; time++) {
        meeting all(3);
        std::mutex mutex;
        std::set<std::thread::id> who;
        std::atomic<bool> met{ true };
        threads.run(3, [&](int, int) {
            met = met && all.meet();
            std::lock_guard<std::mutex> lock(mutex);
            who.insert(std::this_thread::get_id());
        });
        BOOST_TEST(met);
        BOOST_TEST(who.size() == 3u);
        BOOST_TEST(who.count(std::this_thread::get_id()) == 1u);
    }
}

BOOST_AUTO_TEST_CASE(cpu_time_of_the_others_counts)
{
    slot_threads threads(2);
    std::atomic<double> others{ 0.0 };
    const auto burn = [&] {
        const auto caller = std::this_thread::get_id();
        meeting both(2);
        threads.run(2, [&](int, int) {
            both.meet();
            const double start = cpu_s();
            while (cpu_s() < start + 0.02) {
            }
            if (std::this_thread::get_id() != caller)
                others = others + 0.02;
        });
    };
    burn();
    const double first = 1e-9 * threads.cpu_ns();
    BOOST_TEST(others > 0.0);
    BOOST_TEST(first >= others);
    std::thread(burn).join(); // another caller, other threads: what those before used still counts
    BOOST_TEST(1e-9 * threads.cpu_ns() >= first + 0.02);
}

BOOST_AUTO_TEST_CASE(they_run_on_the_cores_of_who_calls)
{
    slot_threads threads(2);
    const auto cores_of_both = [&] {
        meeting both(2);
        std::mutex mutex;
        std::vector<int> cores;
        threads.run(2, [&](int, int) {
            both.meet();
            cpu_set_t set;
            pthread_getaffinity_np(pthread_self(), sizeof(set), &set);
            std::lock_guard<std::mutex> lock(mutex);
            cores.push_back(CPU_COUNT(&set));
        });
        return cores;
    };
    cpu_set_t all;
    pthread_getaffinity_np(pthread_self(), sizeof(all), &all);
    BOOST_TEST(cores_of_both() == std::vector<int>(2, CPU_COUNT(&all)));
    std::thread([&] {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
        BOOST_TEST(cores_of_both() == std::vector<int>(2, 1));
    }).join();
}

BOOST_AUTO_TEST_CASE(a_fork_lets_go_of_them)
{
    auto threads = std::make_unique<slot_threads>(3);
    threads->run(3, [](int, int) {});
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        threads.reset();
        _exit(7);
    }
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 7));
}

BOOST_AUTO_TEST_SUITE_END()
