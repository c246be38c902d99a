/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "background_worker.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace gr::deeprx {

background_worker::~background_worker()
{
    {
        std::lock_guard<std::mutex> lock(d_mutex);
        d_stop = true;
    }
    d_changed.notify_one();
    if (d_thread.joinable())
        d_thread.join();
}

void background_worker::post(job work)
{
    {
        std::lock_guard<std::mutex> lock(d_mutex);
        d_jobs.push_back(std::move(work));
    }
    d_changed.notify_one();
    if (!d_thread.joinable())
        d_thread = std::thread(&background_worker::run, this);
}

void background_worker::run()
{
    // Linux gives each thread its own nice value.
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 10);
    std::unique_lock<std::mutex> lock(d_mutex);
    while (true) {
        d_changed.wait(lock, [this] { return d_stop || !d_jobs.empty(); });
        if (d_stop)
            return;
        {
            const job work = std::move(d_jobs.front());
            d_jobs.pop_front();
            lock.unlock();
            work();
        } // what the job held is destroyed here, outside the lock
        lock.lock();
    }
}

} // namespace gr::deeprx
