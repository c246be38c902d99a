/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "jail_filter.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <linux/capability.h>
#include <linux/futex.h>
#include <memory>
#include <sched.h>
#include <seccomp.h>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gr::deeprx {

namespace {

[[noreturn]] void refuse(const std::string& what, int error)
{
    throw std::runtime_error(what + ": " + std::strerror(error));
}

void limit(int resource, rlim_t most)
{
    const auto which = static_cast<__rlimit_resource>(resource);
    rlimit both{};
    getrlimit(which, &both);
    both.rlim_cur = both.rlim_max = std::min(most, both.rlim_max); // nobody may raise it
    if (setrlimit(which, &both))
        refuse("setrlimit", errno);
}

//! Of /proc/self/status, in bytes.
uint64_t held(const std::string& key)
{
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind(key + ":", 0) == 0)
            return 1024 * std::stoull(line.substr(key.size() + 1));
    throw std::runtime_error("/proc/self/status has no " + key);
}

void limit_resources(uint64_t memory)
{
    limit(RLIMIT_DATA, held("VmData") + memory);
    // A page that can no longer be written is no data: this bounds those, too. Address space is
    // reserved by threads and never used, hence four times as much.
    limit(RLIMIT_AS, held("VmSize") + 4 * memory);
    for (const int nothing : { RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_MEMLOCK })
        limit(nothing, 0);
}

/*
 * Landlock, where the kernel has it: a second lock behind the filter, for the thread that computes
 * and those that it starts. Its header is newer than the
 * oldest system that this builds on; numbers are linux/landlock.h's.
 */
void restrict_files_and_network()
{
    constexpr long create_ruleset = 444, restrict_self = 446, version_flag = 1;
    const long version = syscall(create_ruleset, nullptr, 0, version_flag);
    if (version < 1)
        return;
    struct {
        uint64_t files, network, scopes;
    } handled{};
    handled.files = version >= 5 ? 0xffff : version >= 3 ? 0x7fff : version == 2 ? 0x3fff : 0x1fff;
    handled.network = version >= 4 ? 3 : 0;
    handled.scopes = version >= 6 ? 3 : 0; // abstract sockets, signals
    const size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    const int rules = static_cast<int>(syscall(create_ruleset, &handled, size, 0));
    if (rules < 0 || syscall(restrict_self, rules, 0))
        refuse("Landlock", errno);
}

/*
 * What is not listed fails with EPERM, which libraries take as an answer: a file that asks gets no
 * further, and one that never meant to is not ended. Code is compiled at run time (OpenVINO,
 * oneDNN), so that executable memory is allowed: no right hangs on what code runs.
 */
class filter
{
public:
    filter() : d_context(seccomp_init(SCMP_ACT_ERRNO(EPERM)), seccomp_release)
    {
        if (!d_context)
            throw std::runtime_error("seccomp_init");
        attribute(SCMP_FLTATR_CTL_TSYNC, 1); // all threads
        attribute(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        attribute(SCMP_FLTATR_CTL_NNP, 1);
    }

    void allow(std::initializer_list<int> calls)
    {
        for (const int call : calls)
            rule(SCMP_ACT_ALLOW, call, {});
    }

    void rule(uint32_t action, int call, std::initializer_list<scmp_arg_cmp> arguments)
    {
        check(seccomp_rule_add_array(
            d_context.get(), action, call, arguments.size(), arguments.begin()));
    }

    void answer(int error, std::initializer_list<int> calls)
    {
        for (const int call : calls)
            rule(SCMP_ACT_ERRNO(error), call, {});
    }

    void load() { check(seccomp_load(d_context.get())); }

private:
    void attribute(scmp_filter_attr name, uint32_t value)
    {
        check(seccomp_attr_set(d_context.get(), name, value));
    }

    static void check(int result)
    {
        if (result < 0)
            refuse("seccomp", -result);
    }

    std::unique_ptr<void, decltype(&seccomp_release)> d_context;
};

scmp_arg_cmp only(unsigned argument, uint64_t bits, uint64_t value)
{
    return { argument, SCMP_CMP_MASKED_EQ, bits, value };
}

void filter_calls()
{
    constexpr uint64_t all = ~uint64_t{ 0 };
    filter calls;
    calls.allow({ // itself
                  SCMP_SYS(exit),
                  SCMP_SYS(exit_group),
                  SCMP_SYS(getpid),
                  SCMP_SYS(gettid),
                  SCMP_SYS(sched_yield),
                  SCMP_SYS(sched_getaffinity),
                  SCMP_SYS(getcpu),
                  SCMP_SYS(getrandom),
                  SCMP_SYS(restart_syscall),
                  // clocks
                  SCMP_SYS(clock_gettime),
                  SCMP_SYS(clock_getres),
                  SCMP_SYS(clock_nanosleep),
                  SCMP_SYS(nanosleep),
                  SCMP_SYS(gettimeofday),
                  SCMP_SYS(time),
                  // memory
                  SCMP_SYS(brk),
                  SCMP_SYS(munmap),
                  SCMP_SYS(mprotect),
                  // threads and signals
                  SCMP_SYS(set_robust_list),
                  SCMP_SYS(rseq),
                  SCMP_SYS(rt_sigaction),
                  SCMP_SYS(rt_sigprocmask),
                  SCMP_SYS(rt_sigreturn),
                  SCMP_SYS(sigaltstack) });
    for (const uint64_t operation :
         { FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET })
        calls.rule(SCMP_ACT_ALLOW,
                   SCMP_SYS(futex),
                   { only(1, ~uint64_t{ FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME }, operation) });
    // Private memory that counts as data: no files, nothing shared, no growing stacks, no huge
    // pages.
    calls.rule(SCMP_ACT_ALLOW,
               SCMP_SYS(mmap),
               { only(3,
                      ~uint64_t{ MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK |
                                 MAP_POPULATE },
                      MAP_PRIVATE | MAP_ANONYMOUS) });
    for (const uint64_t flags : { 0, MREMAP_MAYMOVE })
        calls.rule(SCMP_ACT_ALLOW, SCMP_SYS(mremap), { only(3, all, flags) });
    for (const uint64_t advice : { MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE })
        calls.rule(SCMP_ACT_ALLOW, SCMP_SYS(madvise), { only(2, all, advice) });
    // Threads as glibc makes them; clone3 has its flags where no filter can read them.
    constexpr uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                CLONE_CHILD_CLEARTID;
    calls.rule(SCMP_ACT_ALLOW, SCMP_SYS(clone), { only(0, all, thread) });
    calls.answer(ENOSYS, { SCMP_SYS(clone3) });
    calls.rule(SCMP_ACT_ALLOW, // abort()
               SCMP_SYS(tgkill),
               { only(0, all, static_cast<uint64_t>(getpid())) });
    // There is no such file, which the libraries are ready for: they look before they open.
    calls.answer(ENOENT,
                 { SCMP_SYS(open),
                   SCMP_SYS(openat),
                   SCMP_SYS(stat),
                   SCMP_SYS(lstat),
                   SCMP_SYS(newfstatat),
                   SCMP_SYS(statx),
                   SCMP_SYS(access),
                   SCMP_SYS(faccessat),
                   SCMP_SYS(faccessat2),
                   SCMP_SYS(readlink),
                   SCMP_SYS(readlinkat) });
    calls.load();
}

} // namespace

void drop_capabilities()
{
    __user_cap_header_struct header{ _LINUX_CAPABILITY_VERSION_3, 0 };
    __user_cap_data_struct none[2]{};
    if (syscall(SYS_capset, &header, none))
        refuse("capset", errno);
}

void give_up_rights(uint64_t memory)
{
    limit_resources(memory);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        refuse("no_new_privs", errno);
    restrict_files_and_network();
    if (syscall(SYS_close_range, 0, ~0U, 0))
        refuse("close_range", errno);
    limit(RLIMIT_NOFILE, 0);
    filter_calls();
}

} // namespace gr::deeprx
