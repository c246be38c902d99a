/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <functional>
#include <memory>
#include <thread>

namespace gr::deeprx {

/*!
 * \brief A thread of low priority that does jobs in order, so that signal processing need not wait
 * for them.
 *
 * Nor does its destructor: waiting jobs are discarded, and a running one, which must hold all that
 * it needs, ends by itself. Only the process waits for that when it exits: the libraries that the
 * job works with are torn down then.
 */
class background_worker
{
public:
    using job = std::function<void()>;

    background_worker();
    ~background_worker();

    //! The job must not throw. The thread starts with the first one.
    void post(job work);

private:
    struct jobs;

    static void run(const std::shared_ptr<jobs>& jobs);

    const std::shared_ptr<jobs> d_jobs;
    std::thread d_thread;
};

//! For jobs of workers that are gone.
void wait_for_last_jobs();

} // namespace gr::deeprx
