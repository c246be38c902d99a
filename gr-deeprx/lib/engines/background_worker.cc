/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "background_worker.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace gr::deeprx {

struct background_worker::jobs {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<job> waiting;
    bool busy = false;
    bool stop = false;
};

namespace {

//! Threads that are at their last job.
class last_jobs
{
public:
    static last_jobs& instance()
    {
        static last_jobs all;
        return all;
    }

    ~last_jobs() { wait(); }

    void wait()
    {
        std::lock_guard<std::mutex> lock(d_mutex);
        for (auto& [thread, ended] : d_threads)
            if (getpid() == d_process) // a fork() has no threads that could end
                thread.join();
            else
                thread.detach();
        d_threads.clear();
    }

    //! \param ended tells whether the thread does nothing any more
    void add(std::thread thread, std::function<bool()> ended)
    {
        std::lock_guard<std::mutex> lock(d_mutex);
        const auto over =
            std::partition(d_threads.begin(), d_threads.end(), [](auto& t) { return !t.second(); });
        std::for_each(over, d_threads.end(), [](auto& t) { t.first.join(); });
        d_threads.erase(over, d_threads.end());
        d_threads.emplace_back(std::move(thread), std::move(ended));
    }

private:
    const pid_t d_process = getpid();
    std::mutex d_mutex;
    std::vector<std::pair<std::thread, std::function<bool()>>> d_threads;
};

} // namespace

void wait_for_last_jobs() { last_jobs::instance().wait(); }

background_worker::background_worker() : d_jobs(std::make_shared<jobs>()) {}

background_worker::~background_worker()
{
    std::deque<job> discarded; // outside the lock, below
    bool busy;
    {
        std::lock_guard<std::mutex> lock(d_jobs->mutex);
        d_jobs->stop = true;
        discarded.swap(d_jobs->waiting);
        busy = d_jobs->busy;
    }
    d_jobs->changed.notify_one();
    if (!d_thread.joinable())
        return;
    if (!busy) {
        d_thread.join();
        return;
    }
    last_jobs::instance().add(std::move(d_thread), [jobs = d_jobs] {
        std::lock_guard<std::mutex> lock(jobs->mutex);
        return !jobs->busy;
    });
}

void background_worker::post(job work)
{
    {
        std::lock_guard<std::mutex> lock(d_jobs->mutex);
        d_jobs->waiting.push_back(std::move(work));
    }
    d_jobs->changed.notify_one();
    if (!d_thread.joinable())
        d_thread = std::thread(run, d_jobs);
}

void background_worker::run(const std::shared_ptr<jobs>& jobs)
{
    // Linux gives each thread its own nice value.
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 10);
    std::unique_lock<std::mutex> lock(jobs->mutex);
    while (true) {
        jobs->changed.wait(lock, [&] { return jobs->stop || !jobs->waiting.empty(); });
        if (jobs->stop)
            return;
        jobs->busy = true;
        {
            const job work = std::move(jobs->waiting.front());
            jobs->waiting.pop_front();
            lock.unlock();
            work();
        } // what the job held is destroyed here, outside the lock
        lock.lock();
        jobs->busy = false;
    }
}

} // namespace gr::deeprx
