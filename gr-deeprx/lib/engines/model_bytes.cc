/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_bytes.h"
#include "model_rules.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace gr::deeprx {

namespace {

constexpr int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

[[noreturn]] void fail(const std::string& what = "cannot be read")
{
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

struct descriptor {
    const int number;
    ~descriptor() { close(number); }
};

//! A memfd in this process's memory.
struct mapping {
    explicit mapping(int shared) : memory{ fcntl(shared, F_DUPFD_CLOEXEC, 0) }
    {
        struct stat about;
        if (memory.number < 0 || fstat(memory.number, &about))
            fail();
        size = about.st_size;
        if (size == 0)
            return;
        // Not MAP_SHARED: Linux before 6.7 takes that for a wish to write.
        start = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, memory.number, 0);
        if (start == MAP_FAILED)
            fail();
    }
    ~mapping()
    {
        if (size > 0)
            munmap(start, size);
    }

    const descriptor memory;
    size_t size = 0;
    void* start = nullptr;
};

void expect_regular(const struct stat& about)
{
    if (S_ISDIR(about.st_mode))
        throw std::runtime_error("is a directory, expected a file");
    if (!S_ISREG(about.st_mode))
        throw std::runtime_error("is a pipe, socket or device, expected a file");
    const auto size = static_cast<size_t>(about.st_size);
    if (size > rules().file_bytes)
        throw std::runtime_error("refused, a file of " + std::to_string(size) +
                                 " bytes is not allowed in a model, at most " +
                                 std::to_string(rules().file_bytes));
}

} // namespace

model_bytes::model_bytes(std::string bytes)
{
    const auto owner = std::make_shared<const std::string>(std::move(bytes));
    d_view = *owner;
    d_owner = owner;
}

model_bytes::model_bytes(int descriptor)
{
    const int kept = fcntl(descriptor, F_GET_SEALS);
    if (kept < 0 || (kept & seals) != seals)
        throw std::invalid_argument("a model file's bytes must be in a sealed memfd");
    const auto owner = std::make_shared<const mapping>(descriptor);
    d_view = { static_cast<const char*>(owner->start), owner->size };
    d_owner = owner;
    d_descriptor = owner->memory.number;
}

model_bytes read_model_file(const std::string& path)
{
    struct stat about;
    if (stat(path.c_str(), &about)) // first: opening a device may do something
        fail();
    expect_regular(about);
    const descriptor file{ ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) };
    if (file.number < 0 || fstat(file.number, &about))
        fail();
    expect_regular(about);
    const descriptor memory{ memfd_create("deeprx-model", MFD_CLOEXEC | MFD_ALLOW_SEALING) };
    if (memory.number < 0)
        fail("shared memory");
    for (off_t left = about.st_size; left > 0;) {
        const ssize_t n = sendfile(memory.number, file.number, nullptr, left);
        if (n < 0 && errno != EINTR)
            fail();
        if (n == 0)
            throw std::runtime_error("became shorter while it was read");
        left -= std::max<ssize_t>(n, 0);
    }
    if (fcntl(memory.number, F_ADD_SEALS, seals))
        fail();
    return model_bytes(memory.number);
}

} // namespace gr::deeprx
