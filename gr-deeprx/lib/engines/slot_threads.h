/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief Threads that share the slots of a batch: a slot takes one of them.
 *
 * They belong to the thread that calls, whose cores and priority they have: for another one they
 * are started anew. In steady state they allocate nothing.
 */
class slot_threads
{
public:
    using work = std::function<void(int thread, int slot)>;

    //! \param n threads, with the one that calls
    explicit slot_threads(int n);
    ~slot_threads();

    //! Does the work, which must not throw, for each slot. \param thread below n
    void run(int n_slots, const work& each);

    //! CPU time in nanoseconds that others than the callers have used so far.
    uint64_t cpu_ns() const;

private:
    struct shared;

    static void take_part(const std::shared_ptr<shared>& all, int thread);
    void start();
    void end();

    const int d_n;
    std::shared_ptr<shared> d_shared;
    std::vector<std::thread> d_threads;
    std::thread::id d_caller;
};

} // namespace gr::deeprx
