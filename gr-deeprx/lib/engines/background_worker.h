/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace gr::deeprx {

/*!
 * \brief A thread of low priority that does jobs in order, so that signal processing need not wait
 * for them. Its destructor finishes the running job and discards the rest.
 */
class background_worker
{
public:
    using job = std::function<void()>;

    ~background_worker();

    //! The job must not throw. The thread starts with the first one.
    void post(job work);

private:
    void run();

    std::mutex d_mutex;
    std::condition_variable d_changed;
    std::deque<job> d_jobs;
    bool d_stop = false;
    std::thread d_thread;
};

} // namespace gr::deeprx
