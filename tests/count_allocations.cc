/* SPDX-License-Identifier: GPL-3.0-or-later */

// Preloaded into a process: counts the allocations of one thread, by the library whose code asks.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <new>
#include <sys/prctl.h>

namespace {

constexpr int max_libraries = 256;

struct library {
    const char* name;
    uintptr_t first, last;
    std::atomic<long> allocations;
};

library libraries[max_libraries];
int n_libraries = 0;
char thread_name[16];
std::atomic<bool> counting{ false };
thread_local bool inside = false;

int add_library(dl_phdr_info* info, size_t, void*)
{
    for (int i = 0; i < info->dlpi_phnum && n_libraries < max_libraries; i++) {
        const auto& segment = info->dlpi_phdr[i];
        if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X))
            continue;
        auto& found = libraries[n_libraries++];
        const char* slash = std::strrchr(info->dlpi_name, '/');
        found.name = strdup(slash ? slash + 1 : info->dlpi_name);
        found.first = info->dlpi_addr + segment.p_vaddr;
        found.last = found.first + segment.p_memsz;
        found.allocations = 0;
    }
    return 0;
}

//! Whose code the standard library only works for.
bool is_asker(const library& library)
{
    return !std::strstr(library.name, "libc.so") && !std::strstr(library.name, "libstdc++") &&
           !std::strstr(library.name, "count_allocations");
}

void count()
{
    if (!counting || inside)
        return;
    inside = true;
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (std::strncmp(name, thread_name, std::strlen(thread_name)) == 0) {
        void* frames[12];
        const int n = backtrace(frames, 12);
        for (int frame = 0; frame < n; frame++) {
            const auto at = reinterpret_cast<uintptr_t>(frames[frame]);
            library* asker = nullptr;
            for (int i = 0; i < n_libraries; i++)
                if (libraries[i].first <= at && at < libraries[i].last)
                    asker = &libraries[i];
            if (asker && is_asker(*asker)) {
                asker->allocations++;
                break;
            }
        }
    }
    inside = false;
}

template <typename F>
F next(const char* symbol)
{
    return reinterpret_cast<F>(dlsym(RTLD_NEXT, symbol));
}

} // namespace

extern "C" {

void count_allocations(const char* of_threads_named)
{
    std::snprintf(thread_name, sizeof(thread_name), "%s", of_threads_named);
    n_libraries = 0;
    dl_iterate_phdr(add_library, nullptr);
    void* frame;
    backtrace(&frame, 1); // loads what it needs
    counting = true;
}

//! One line for each library: its name and how often it asked for memory.
void print_allocations()
{
    counting = false;
    for (int i = 0; i < n_libraries; i++)
        if (libraries[i].allocations)
            std::printf("%s %ld\n", libraries[i].name, libraries[i].allocations.load());
    std::fflush(stdout);
}

void* malloc(size_t size)
{
    static const auto real = next<void* (*)(size_t)>("malloc");
    count();
    return real(size);
}

void* realloc(void* old, size_t size)
{
    static const auto real = next<void* (*)(void*, size_t)>("realloc");
    count();
    return real(old, size);
}

int posix_memalign(void** memory, size_t alignment, size_t size)
{
    static const auto real = next<int (*)(void**, size_t, size_t)>("posix_memalign");
    count();
    return real(memory, alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size)
{
    static const auto real = next<void* (*)(size_t, size_t)>("aligned_alloc");
    count();
    return real(alignment, size);
}
}
