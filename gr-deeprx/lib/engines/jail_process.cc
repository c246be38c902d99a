/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "jail_process.h"
#include "printable.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <linux/futex.h>
#include <mutex>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

extern char** environ;

namespace gr::deeprx {

namespace {

constexpr double start_s = 60.0;
// That a thread which is to end waits on for an answer
constexpr std::chrono::steady_clock::duration leaving = std::chrono::seconds(1);
const std::string ended_early = "its jail was ended before it was done";

//! Blocks all for the calling thread, as long as it lives.
class no_signals
{
public:
    no_signals()
    {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &d_before);
    }
    ~no_signals() { pthread_sigmask(SIG_SETMASK, &d_before, nullptr); }

private:
    sigset_t d_before;
};

/*
 * Jails are the children of one thread that stays: the kernel ends a child when the thread that
 * started it ends (PR_SET_PDEATHSIG), whatever the child does then, and whatever ended this
 * process.
 */
class lasting_thread
{
public:
    static lasting_thread& instance()
    {
        static auto* const one = new lasting_thread; // to the end of the process
        return *one;
    }

    void run(const std::function<void()>& job)
    {
        const std::lock_guard<std::mutex> one_at_a_time(d_callers);
        std::unique_lock<std::mutex> lock(d_mutex);
        d_job = &job;
        d_changed.notify_all();
        d_changed.wait(lock, [this] { return !d_job; });
    }

private:
    lasting_thread()
    {
        const no_signals inherited; // they are the other threads'
        std::thread([this] {
            std::unique_lock<std::mutex> lock(d_mutex);
            while (true) {
                d_changed.wait(lock, [this] { return d_job; });
                (*d_job)();
                d_job = nullptr;
                d_changed.notify_all();
            }
        }).detach();
    }

    std::mutex d_callers, d_mutex;
    std::condition_variable d_changed;
    const std::function<void()>* d_job = nullptr;
};

[[noreturn]] void refuse(const std::string& what, int error)
{
    throw std::runtime_error(what + ": " + std::strerror(error));
}

//! The program beside the library, or where the library's installation has it.
std::string program()
{
    Dl_info about{};
    if (!dladdr(reinterpret_cast<const void*>(&prepare_for_jails), &about) || !about.dli_fname)
        throw std::runtime_error("the library does not know where it is");
    const auto folder = std::filesystem::absolute(about.dli_fname).parent_path();
    for (const auto& path : { folder / "deeprx-jail", folder / JAIL_BESIDE_LIBRARY })
        if (access(path.c_str(), X_OK) == 0)
            return path.lexically_normal();
    throw std::runtime_error("there is no deeprx-jail beside " + std::string(about.dli_fname) +
                             " (gr-deeprx was built without libseccomp)");
}

//! Settings of the inference libraries, and nothing that a stranger may like to know.
std::vector<char*> environment()
{
    std::vector<char*> kept;
    for (char** entry = environ; entry && *entry; entry++)
        for (const char* name : { "ATEN_",
                                  "DEEPRX_AVX2_ONLY=",
                                  "DNNL_",
                                  "KMP_",
                                  "LD_LIBRARY_PATH=",
                                  "MALLOC_",
                                  "MKL_",
                                  "OMP_",
                                  "ONEDNN_",
                                  "OV_" })
            if (std::strncmp(*entry, name, std::strlen(name)) == 0)
                kept.push_back(*entry);
    kept.push_back(nullptr);
    return kept;
}

jail_parameters to_jail(const engine_parameters& p, size_t file_bytes)
{
    jail_parameters to{};
    to.n_prb = p.slot.n_prb();
    to.n_symbols = p.slot.symbols();
    to.n_dmrs = static_cast<int32_t>(p.slot.dmrs().size());
    std::copy(p.slot.dmrs().begin(), p.slot.dmrs().end(), to.dmrs);
    to.cdm_groups = p.slot.config().cdm_groups;
    to.scs_khz = p.slot.config().scs_khz;
    to.n_layers = p.slot.n_layers();
    for (int layer = 0; layer < to.n_layers; layer++) {
        to.ports[layer] = p.slot.config().users[layer].port;
        p.slot.modulation(layer).copy(to.modulations[layer], sizeof(to.modulations[layer]) - 1);
    }
    to.n_rx = p.n_rx;
    to.threads = p.threads;
    to.max_batch = p.max_batch;
    p.engine.copy(to.engine, sizeof(to.engine) - 1);
    to.file_bytes = file_bytes;
    to.memory = static_cast<uint64_t>(p.jail.memory);
    return to;
}

//! Whole, or with one digit below 1.
std::string shown(double seconds)
{
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), seconds < 1 ? "%.1g" : "%.0f", seconds);
    return text.data();
}

} // namespace

int sealed_memory(size_t bytes)
{
    const int memory = memfd_create("deeprx-jail", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0 || ftruncate(memory, static_cast<off_t>(bytes)) ||
        fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        refuse("shared memory", errno);
    return memory;
}

void prepare_for_jails() { lasting_thread::instance(); }

jail_process::jail_process(int file, size_t file_bytes, const engine_parameters& p)
    : d_parameters(to_jail(p, file_bytes)), d_layout(d_parameters), d_cancelled(p.cancelled)
{
    const int memory = sealed_memory(d_layout.size);
    const std::unique_ptr<const int, void (*)(const int*)> closed(&memory,
                                                                  [](auto* fd) { close(*fd); });
    d_memory = mmap(nullptr, d_layout.size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (d_memory == MAP_FAILED)
        refuse("shared memory", errno);
    try {
        control().parameters = d_parameters;
        control().requests = d_count;
        start(memory, file);
        wait(start_s);
    } catch (const jail_lost&) {
        release();
        throw;
    } catch (const std::exception& e) {
        release();
        throw std::runtime_error(std::string("is not trusted, and there is no jail for it here (") +
                                 e.what() + "): --trust (the block's trust) does without");
    } catch (...) { // the watch's
        release();
        throw;
    }
}

jail_process::~jail_process() { release(); }

void jail_process::release()
{
    kill_it();
    munmap(d_memory, d_layout.size);
}

void jail_process::kill_it()
{
    if (d_pid == 0 || getpid() != d_parent) // behind a fork() it is another process's
        return;
    cpu_ns();
    syscall(SYS_pidfd_send_signal, d_process, SIGKILL, nullptr, 0);
    while (waitpid(d_pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    forget_it();
}

void jail_process::forget_it()
{
    close(d_process);
    d_process = -1;
    d_pid = 0;
}

void jail_process::start(int memory, int file)
{
    const std::string path = program();
    std::string name = "deeprx-jail", parent = std::to_string(d_parent);
    char* const arguments[]{ name.data(), parent.data(), nullptr };
    auto kept = environment();
    auto& parent_of_jails = lasting_thread::instance();

    // Behind both of the jail's, so that neither is the other one, and before 0 and 1, which the
    // memory's may be.
    const int apart = fcntl(file, F_DUPFD_CLOEXEC, jail_file_descriptor + 1);
    if (apart < 0)
        refuse("a descriptor of its file", errno);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, memory, jail_memory_descriptor);
    posix_spawn_file_actions_adddup2(&files, apart, jail_file_descriptor);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0); // Ctrl-C is for the receiver
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    int error = 0;
    parent_of_jails.run([&] {
        error = posix_spawn(&d_pid, path.c_str(), &files, &attributes, arguments, kept.data());
    });
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    close(apart);
    if (error) {
        d_pid = 0;
        refuse(path, error);
    }
    d_process = static_cast<int>(syscall(SYS_pidfd_open, d_pid, 0)); // closed at exec
    if (d_process < 0) {
        error = errno;
        kill(d_pid, SIGKILL);
        waitpid(d_pid, nullptr, 0);
        d_pid = 0;
        refuse("a descriptor of its process", error);
    }
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof(cores), &cores) == 0)
        bind(cores); // the caller's, not those of the thread that started it
}

bool jail_process::call(jail_operation operation, int batch, double seconds)
{
    if (d_pid == 0)
        throw jail_lost(d_lost);
    control().operation = operation;
    control().batch = batch;
    control().requests.store(++d_count, std::memory_order_release);
    syscall(SYS_futex, &control().requests, FUTEX_WAKE, 1);
    return wait(seconds) == jail_status::done;
}

jail_status jail_process::wait(double seconds)
{
    using clock = std::chrono::steady_clock;
    auto deadline = clock::now() + std::chrono::duration<double>(seconds);
    bool leaves = false;
    const timespec slice{ 0, 50'000'000 };
    for (uint32_t seen; (seen = control().answers.load(std::memory_order_acquire)) != d_count;) {
        syscall(SYS_futex, &control().answers, FUTEX_WAIT, seen, &slice);
        if (control().answers.load(std::memory_order_acquire) == d_count)
            break;
        expect_alive(); // woken or not: what runs there may wake it for ever
        expect_wanted();
        if (!leaves && this_thread_leaves() && this_thread_leaves()()) {
            leaves = true;
            deadline = std::min<decltype(deadline)>(deadline, clock::now() + leaving);
        }
        if (clock::now() > deadline) {
            if (leaves)
                end(ended_early);
            end<jail_too_slow>("its jail was ended after " + shown(seconds) +
                               " s without an answer");
        }
    }
    const auto status = control().status.load(std::memory_order_relaxed);
    if (status == jail_status::failed)
        throw std::runtime_error(text().empty() ? "its jail failed, and does not say why" : text());
    if (status != jail_status::done && status != jail_status::none)
        end("its jail gave an answer that is none, and was ended");
    return status;
}

void jail_process::expect_alive()
{
    int status = 0;
    const pid_t ended = waitpid(d_pid, &status, WNOHANG);
    if (ended == 0)
        return;
    cpu_ns();
    forget_it();
    d_lost = "its jail has ended";
    if (ended > 0 && WIFSIGNALED(status))
        d_lost += std::string(": ") + strsignal(WTERMSIG(status));
    else if (ended > 0 && WIFEXITED(status))
        d_lost += " with status " + std::to_string(WEXITSTATUS(status));
    throw jail_lost(d_lost);
}

void jail_process::expect_wanted()
{
    if (d_cancelled && *d_cancelled)
        end(ended_early);
    try {
        if (const auto watch = jail_watch().load())
            watch();
    } catch (...) {
        kill_it();
        d_lost = ended_early;
        throw;
    }
}

template <class Lost>
void jail_process::end(const std::string& why)
{
    kill_it();
    d_lost = why;
    throw Lost(why);
}

std::string jail_process::text() const
{
    const std::string copy(control().text, sizeof(jail_control::text));
    return printable(copy.substr(0, copy.find('\0')));
}

void jail_process::bind(const cpu_set_t& cores) const
{
    std::error_code ended;
    const std::string tasks = "/proc/" + std::to_string(d_pid) + "/task";
    for (std::filesystem::directory_iterator task(tasks, ended), end; !ended && task != end;
         task.increment(ended))
        sched_setaffinity(std::stoi(task->path().filename()), sizeof(cores), &cores);
}

uint64_t jail_process::cpu_ns() const
{
    clockid_t clock;
    timespec used{};
    if (d_pid > 0 && clock_getcpuclockid(d_pid, &clock) == 0 && clock_gettime(clock, &used) == 0)
        d_cpu_ns = uint64_t{ 1000000000 } * used.tv_sec + used.tv_nsec;
    return d_cpu_ns;
}

} // namespace gr::deeprx
