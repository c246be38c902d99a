/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"
#include "jail_memory.h"

#include <cstdint>
#include <sched.h>
#include <string>
#include <sys/types.h>
#include <unistd.h>

namespace gr::deeprx {

//! It was ended at a limit of time, which its user may widen.
class jail_too_slow : public jail_lost
{
public:
    using jail_lost::jail_lost;
};

/*!
 * \brief A process without rights that runs one stranger's model file, seen from the receiver's.
 *
 * It is started by exec: inference libraries do not survive fork(). It gets a memfd with
 * the file's bytes and looks at the first one when it has shut itself in; what it says is taken for
 * a stranger's word.
 */
class jail_process
{
public:
    /*!
     * \brief Starts it; returns when it is shut.
     * \throws std::runtime_error one line: this machine cannot jail
     * \throws jail_lost
     */
    jail_process(int file, size_t file_bytes, const engine_parameters& parameters);
    ~jail_process();
    jail_process(const jail_process&) = delete;
    jail_process& operator=(const jail_process&) = delete;

    float* grids() const { return at<float>(d_layout.grids); }
    float* pilots() const { return at<float>(d_layout.pilots); }

    //! These may change under the reader's hands.
    const float* llrs() const { return at<float>(d_layout.llrs); }
    const float* channels() const { return at<float>(d_layout.channels); }
    const float* noise() const { return at<float>(d_layout.noise); }

    /*!
     * \brief Asks for something and waits, \p seconds at most.
     * \return false: the file has no method that does it
     * \throws std::runtime_error one line, in the jail's words
     * \throws jail_lost it is gone, now or before
     */
    bool call(jail_operation operation, int batch, double seconds);

    //! What came with the last answer: printable, at most a line.
    std::string text() const;

    //! Puts all of its threads on these cores.
    void bind(const cpu_set_t& cores) const;

    //! That it has used so far.
    uint64_t cpu_ns() const;

private:
    template <typename T>
    T* at(size_t place) const
    {
        return reinterpret_cast<T*>(static_cast<char*>(d_memory) + place);
    }
    jail_control& control() const { return *at<jail_control>(0); }

    void start(int memory, int file);
    void release();
    void kill_it();
    void forget_it();
    jail_status wait(double seconds);
    void expect_alive();
    void expect_wanted();
    template <class Lost = jail_lost>
    [[noreturn]] void end(const std::string& why);

    const jail_parameters d_parameters;
    const jail_layout d_layout;
    const std::shared_ptr<const std::atomic<bool>> d_cancelled;
    void* d_memory = nullptr;
    const pid_t d_parent = getpid();
    pid_t d_pid = 0;    // 0: it is gone
    int d_process = -1; // its descriptor: a number may be another process's by now
    std::string d_lost;
    uint32_t d_count = 1; // of requests
    mutable uint64_t d_cpu_ns = 0;
};

//! A descriptor of so many bytes, which nobody can make fewer or more.
int sealed_memory(size_t bytes);

//! Starts the thread that starts jails, which must be there before any of low priority asks.
void prepare_for_jails();

} // namespace gr::deeprx
