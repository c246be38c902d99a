/* SPDX-License-Identifier: GPL-3.0-or-later */

// What a jail may do, asked of the kernel by a program in it that means harm.

#include "jail_filter.h"
#include "jail_process.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(jail_suite)

namespace {

constexpr uint64_t memory = 64 << 20;

//! What a child ends with that gives up its rights and then does this: as wait() tells.
template <typename Work>
int in_jail(Work work)
{
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); // Boost.Test's goes on with the tests
        alarm(20);
        try {
            give_up_rights(memory);
        } catch (const std::exception&) {
            _exit(250);
        }
        _exit(work());
    }
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    return status;
}

//! The errno of a call; 0: it did what was asked.
struct attempt {
    const char* name;
    long (*call)();
    int expected;
};

std::ostream& operator<<(std::ostream& out, const attempt& a) { return out << a.name; }

long anonymous(int protection, int flags, size_t bytes = 4096)
{
    return syscall(SYS_mmap, nullptr, bytes, protection, flags, -1, 0);
}

const attempt attempts[]{
    { "open", [] { return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY); }, ENOENT },
    { "create", [] { return syscall(SYS_openat, AT_FDCWD, "x", O_CREAT | O_RDWR, 0600); }, ENOENT },
    { "openat2", [] { return syscall(437, AT_FDCWD, "/etc/passwd", nullptr, 24); }, EPERM },
    { "stat", [] { return syscall(SYS_newfstatat, AT_FDCWD, "/", nullptr, 0); }, ENOENT },
    { "unlink", [] { return syscall(SYS_unlinkat, AT_FDCWD, "x", 0); }, EPERM },
    { "write", [] { return syscall(SYS_write, 1, "x", 1); }, EPERM },
    { "read", [] { return syscall(SYS_read, 0, nullptr, 1); }, EPERM },
    { "memfd", [] { return syscall(SYS_memfd_create, "x", 0); }, EPERM },
    { "pipe", [] { return syscall(SYS_pipe2, nullptr, 0); }, EPERM },
    { "socket", [] { return syscall(SYS_socket, 2, 1, 0); }, EPERM },
    { "connect", [] { return syscall(SYS_connect, 3, nullptr, 0); }, EPERM },
    { "io_uring", [] { return syscall(425, 1, nullptr); }, EPERM },
    { "fork", [] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }, EPERM },
    { "process that shares memory",
      [] { return syscall(SYS_clone, CLONE_VM | CLONE_FILES | SIGCHLD, 0, 0, 0, 0); },
      EPERM },
    { "clone3", [] { return syscall(435, nullptr, 88); }, ENOSYS },
    { "execve", [] { return syscall(SYS_execve, "/bin/true", nullptr, nullptr); }, EPERM },
    { "kill its parent", [] { return syscall(SYS_kill, getppid(), 0); }, EPERM },
    { "tgkill its parent", [] { return syscall(SYS_tgkill, getppid(), getppid(), 0); }, EPERM },
    { "tgkill any", [] { return syscall(SYS_tgkill, -1, 1, 0); }, EPERM },
    { "tkill", [] { return syscall(SYS_tkill, getppid(), 0); }, EPERM },
    { "pidfd", [] { return syscall(434, getppid(), 0); }, EPERM },
    { "ptrace", [] { return syscall(SYS_ptrace, PTRACE_ATTACH, getppid(), 0, 0); }, EPERM },
    { "its parent's memory",
      [] { return syscall(SYS_process_vm_readv, getppid(), nullptr, 0, nullptr, 0, 0); },
      EPERM },
    { "its parent's limits",
      [] { return syscall(SYS_prlimit64, getppid(), RLIMIT_CPU, nullptr, nullptr); },
      EPERM },
    { "its parent's cores",
      [] { return syscall(SYS_sched_setaffinity, getppid(), 0, nullptr); },
      EPERM },
    { "prctl", [] { return syscall(SYS_prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0); }, EPERM },
    { "unshare", [] { return syscall(SYS_unshare, CLONE_NEWUSER); }, EPERM },
    { "bpf", [] { return syscall(SYS_bpf, 0, nullptr, 0); }, EPERM },
    { "perf", [] { return syscall(SYS_perf_event_open, nullptr, 0, 0, -1, 0); }, EPERM },
    { "keys", [] { return syscall(SYS_keyctl, 0, 0); }, EPERM },
    { "timer", [] { return syscall(SYS_timer_create, 0, nullptr, nullptr); }, EPERM },
    { "priority futex",
      [] { return syscall(SYS_futex, nullptr, /*FUTEX_LOCK_PI*/ 6, 0, nullptr); },
      EPERM },
    { "shared memory",
      [] { return anonymous(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS); },
      EPERM },
    { "huge pages",
      [] { return anonymous(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB); },
      EPERM },
    { "a stack that grows",
      [] { return anonymous(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN); },
      EPERM },
    { "more memory than its own",
      [] { return anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, memory + 4096); },
      ENOMEM },
    // What a model needs
    { "memory",
      [] { return anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, memory / 2); },
      0 },
    { "compiled code",
      [] { return anonymous(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS); },
      0 },
};

} // namespace

BOOST_DATA_TEST_CASE(each_call_is_answered_as_the_list_says,
                     boost::unit_test::data::make(attempts),
                     a)
{
    const int status = in_jail([&a] {
        errno = 0;
        return a.call() == -1 ? errno : 0;
    });
    BOOST_REQUIRE(WIFEXITED(status));
    BOOST_TEST(WEXITSTATUS(status) == a.expected, strerror(WEXITSTATUS(status)));
}

BOOST_AUTO_TEST_CASE(threads_start_and_have_no_more_rights)
{
    const int status = in_jail([] {
        int answer = 0;
        std::thread([&answer] { answer = syscall(SYS_socket, 2, 1, 0) == -1 ? errno : 0; }).join();
        return answer;
    });
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == EPERM));
}

BOOST_AUTO_TEST_CASE(threads_that_run_already_lose_their_rights_too)
{
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        std::atomic<bool> shut{ false };
        std::atomic<int> answer{ 0 };
        std::thread before([&] {
            while (!shut)
                std::this_thread::yield();
            answer = syscall(SYS_socket, 2, 1, 0) == -1 ? errno : 0;
        });
        give_up_rights(memory);
        shut = true;
        before.join();
        _exit(answer);
    }
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == EPERM));
}

BOOST_AUTO_TEST_CASE(memory_that_is_written_and_then_protected_has_an_end)
{
    const int status = in_jail([] {
        for (int i = 0; i < 1000; i++) {
            void* some = mmap(
                nullptr, memory / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (some == MAP_FAILED)
                return errno == ENOMEM ? i : 100;
            mprotect(some, memory / 2, PROT_READ);
        }
        return 101;
    });
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) <= 8)); // of half each: four times
}

BOOST_AUTO_TEST_CASE(narrower_limits_of_its_parent_stay)
{
    constexpr rlim_t narrow = rlim_t{ 1 } << 44;
    const pid_t child = fork();
    if (child == 0) {
        const rlimit both{ narrow, narrow };
        setrlimit(RLIMIT_AS, &both);
        setrlimit(RLIMIT_DATA, &both);
        try {
            drop_capabilities(); // of root, who may widen them
            give_up_rights(2 * narrow);
        } catch (const std::exception&) {
            _exit(250);
        }
        _exit(anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, narrow) == -1 ? errno
                                                                                           : 0);
    }
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == ENOMEM));
}

BOOST_AUTO_TEST_CASE(a_thread_that_cannot_be_started_leaves_signals_as_they_were)
{
    const pid_t child = fork();
    if (child == 0) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, size_t{ 1 } << 40); // none that is kept for reuse
        pthread_setattr_default_np(&attributes);
        const rlimit both{ rlim_t{ 1 } << 40, rlim_t{ 1 } << 40 };
        setrlimit(RLIMIT_AS, &both);
        try {
            prepare_for_jails();
        } catch (const std::exception&) {
            sigset_t blocked;
            pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
            _exit(sigismember(&blocked, SIGINT));
        }
        _exit(250);
    }
    int status = 0;
    BOOST_REQUIRE(waitpid(child, &status, 0) == child);
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

#ifdef __x86_64__
BOOST_AUTO_TEST_CASE(calls_of_another_architecture_end_it)
{
    const int i386 = in_jail([] { // getpid, as a 32-bit program asks
        long answer = 20;
        asm volatile("int $0x80" : "+a"(answer));
        return 0;
    });
    BOOST_TEST((WIFSIGNALED(i386) && WTERMSIG(i386) == SIGSYS));
    const int x32 = in_jail([] { return syscall(0x40000000 | SYS_getpid) > 0 ? 0 : 1; });
    BOOST_TEST((WIFSIGNALED(x32) && WTERMSIG(x32) == SIGSYS));
}
#endif

BOOST_AUTO_TEST_CASE(aborting_ends_it_with_its_signal)
{
    const int status = in_jail([]() -> int { abort(); });
    BOOST_TEST((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
}

BOOST_AUTO_TEST_CASE(shared_memory_keeps_its_size)
{
    const int memory = sealed_memory(4096);
    BOOST_TEST(ftruncate(memory, 0) == -1);
    BOOST_TEST(ftruncate(memory, 8192) == -1);
    BOOST_TEST(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE) == -1);
    close(memory);
}

BOOST_AUTO_TEST_CASE(limits_by_default_are_those_that_the_documentation_states)
{
    const jail_limits limits = usual_jail_limits();
    BOOST_TEST(limits.memory == 2147483648.0);
    BOOST_TEST(limits.load_s == 60.0);
    BOOST_TEST(limits.patience(0.0) == 5.0);
    BOOST_TEST(limits.patience(0.125) == 11.25);
    BOOST_TEST(limits.patience(0.5) == 30.0);
    BOOST_TEST(limits.patience(100.0) == 30.0);
}

BOOST_AUTO_TEST_CASE(nothing_in_the_memory_overlaps)
{
    jail_parameters p{};
    p.n_prb = 273;
    p.n_symbols = 14;
    p.n_layers = 2;
    p.n_rx = 4;
    p.max_batch = 256;
    const jail_layout places(p);
    const size_t re = size_t(256) * 14 * 3276;
    BOOST_TEST(places.grids >= sizeof(jail_control));
    BOOST_TEST(places.pilots >= places.grids + re * 4 * 8);
    BOOST_TEST(places.llrs >= places.pilots + re * 2 * 8);
    BOOST_TEST(places.size >= places.llrs + re * 2 * 8 * 4);
}

BOOST_AUTO_TEST_SUITE_END()
