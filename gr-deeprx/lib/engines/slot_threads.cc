/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_threads.h"

#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

namespace gr::deeprx {

namespace {

uint64_t read(clockid_t clock)
{
    timespec time{};
    return clock_gettime(clock, &time) == 0 ? uint64_t{ 1000000000 } * time.tv_sec + time.tv_nsec
                                            : 0;
}

} // namespace

//! Outlives its owner where threads still hold it: in a fork(), which has none of them.
struct slot_threads::shared {
    //! Slots of the batch, as long as there are any that nobody has.
    void take(std::unique_lock<std::mutex>& lock, int thread)
    {
        while (next < n_slots) {
            const int slot = next++;
            lock.unlock();
            (*each)(thread, slot);
            lock.lock();
            if (++done == n_slots)
                complete.notify_one();
        }
    }

    const pid_t process = getpid();
    std::mutex mutex;
    std::condition_variable begun, complete;
    const work* each = nullptr;
    int n_slots = 0, next = 0, done = 0;
    uint64_t ended_ns = 0; // CPU time of threads that are gone
    bool stop = false;
};

slot_threads::slot_threads(int n) : d_n(n), d_shared(std::make_shared<shared>()) {}

slot_threads::~slot_threads() { end(); }

void slot_threads::run(int n_slots, const work& each)
{
    if (d_n == 1 || n_slots == 1) {
        for (int slot = 0; slot < n_slots; slot++)
            each(0, slot);
        return;
    }
    if (d_caller != std::this_thread::get_id()) {
        end();
        start();
    }
    auto& all = *d_shared;
    std::unique_lock<std::mutex> lock(all.mutex);
    all.each = &each;
    all.n_slots = n_slots;
    all.next = all.done = 0;
    all.begun.notify_all();
    all.take(lock, 0);
    all.complete.wait(lock, [&] { return all.done == n_slots; });
}

void slot_threads::take_part(const std::shared_ptr<shared>& all, int thread)
{
    std::unique_lock<std::mutex> lock(all->mutex);
    while (true) {
        all->begun.wait(lock, [&] { return all->stop || all->next < all->n_slots; });
        if (all->stop)
            break;
        all->take(lock, thread);
    }
    all->ended_ns += read(CLOCK_THREAD_CPUTIME_ID);
}

void slot_threads::start()
{
    d_shared->stop = false;
    for (int thread = 1; thread < d_n; thread++)
        d_threads.emplace_back([all = d_shared, thread] { take_part(all, thread); });
    d_caller = std::this_thread::get_id();
}

void slot_threads::end()
{
    if (d_threads.empty())
        return;
    if (d_shared->process != getpid()) {
        for (auto& thread : d_threads)
            thread.detach();
        d_threads.clear();
        return;
    }
    {
        std::lock_guard<std::mutex> lock(d_shared->mutex);
        d_shared->stop = true;
    }
    d_shared->begun.notify_all();
    for (auto& thread : d_threads)
        thread.join();
    d_threads.clear();
}

uint64_t slot_threads::cpu_ns() const
{
    std::lock_guard<std::mutex> lock(d_shared->mutex);
    uint64_t total = d_shared->ended_ns;
    for (const auto& thread : d_threads) {
        clockid_t clock;
        if (pthread_getcpuclockid(const_cast<std::thread&>(thread).native_handle(), &clock) == 0)
            total += read(clock);
    }
    return total;
}

} // namespace gr::deeprx
