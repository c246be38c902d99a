/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace gr::deeprx {

/*
 * The memory that a receiver and a jail share, and all that goes between them: two words that count
 * requests and answers, and what belongs to them. The receiver writes a request and then counts it;
 * it reads nothing back but the answer, each value once, and no size or place: those follow from
 * parameters that it keeps.
 */

constexpr int jail_memory_descriptor = 3, jail_file_descriptor = 4; // in the jail

enum class jail_operation : uint32_t {
    start,   // the first answer comes without a request: the jail is shut
    check,   // the file's checks alone
    load,    // text: what computes
    prepare, // for batches of this size
    infer,
    estimate, // of the last batch
};

enum class jail_status : uint32_t {
    done = 1,
    failed, // text: why
    none,   // the file has no such method
};

//! The same executable on both sides: the layout is the compiler's.
struct jail_parameters {
    int32_t n_prb, n_symbols, n_dmrs, dmrs[4], cdm_groups, scs_khz, n_layers, ports[2];
    char modulations[2][8];
    int32_t n_rx, threads, max_batch;
    char engine[16];
    uint64_t file_bytes;
    uint64_t memory; // bytes that the jail may take
};

struct jail_control {
    jail_parameters parameters;

    alignas(64) std::atomic<uint32_t> requests;
    jail_operation operation;
    int32_t batch;

    alignas(64) std::atomic<uint32_t> answers;
    std::atomic<jail_status> status;
    char text[1000];
};
static_assert(std::atomic<uint32_t>::is_always_lock_free &&
              std::atomic<jail_status>::is_always_lock_free);

//! Where things are, in bytes.
struct jail_layout {
    size_t grids, pilots, llrs, channels, noise, size;

    explicit jail_layout(const jail_parameters& p)
    {
        const size_t of_slot = size_t(p.n_symbols) * 12 * p.n_prb; // REs
        const size_t most_bits = 8;
        const size_t antennas = p.max_batch * p.n_rx * of_slot;
        const size_t layers = p.max_batch * p.n_layers * of_slot;
        grids = page(sizeof(jail_control));
        pilots = grids + page(antennas * 2 * sizeof(float));
        llrs = pilots + page(layers * 2 * sizeof(float));
        channels = llrs + page(layers * most_bits * sizeof(float));
        noise = channels + page(layers * p.n_rx * 2 * sizeof(float));
        size = noise + page(size_t(p.max_batch) * p.n_rx * sizeof(float));
    }

private:
    static size_t page(size_t bytes) { return (bytes + 4095) & ~size_t{ 4095 }; }
};

} // namespace gr::deeprx
