/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "engine.h"
#include "parameters.h"
#include "trusted.h"

#include <gnuradio/deeprx/bare_engine.h>

#include <algorithm>
#include <chrono>

namespace gr::deeprx {

bare_engine::bare_engine(const std::string& model,
                         const slot_config& slot,
                         int n_rx,
                         const std::string& device,
                         int threads,
                         int max_batch,
                         const std::string& engine,
                         const std::vector<std::string>& trust)
    : d_threads(std::make_unique<thread_claim>(threads))
{
    const engine_parameters parameters{ slot_geometry(slot), n_rx,   device,          threads,
                                        max_batch,           engine, hashes_of(trust) };
    check_range(parameters);
    set_inference_threads(threads);
    d_grid_floats = size_t(n_rx) * parameters.slot.n_re() * 2;
    d_pilot_floats = size_t(parameters.slot.n_layers()) * parameters.slot.n_re() * 2;
    d_engine = load_engine(model, parameters);
    d_engine->warm_up({ 1, max_batch });
}

bare_engine::~bare_engine() = default;

const std::string& bare_engine::name() const { return d_engine->info().name; }

std::string bare_engine::description() const { return d_engine->description(); }

int bare_engine::llr_stride() const { return d_engine->llr_stride(); }

const float* bare_engine::infer(const float* y, const float* p, int batch)
{
    expect_same_process();
    for (int slot = 0; slot < batch; slot++) {
        std::copy_n(y + slot * d_grid_floats, d_grid_floats, d_engine->grid(slot));
        std::copy_n(p + slot * d_pilot_floats, d_pilot_floats, d_engine->pilots(slot));
    }
    return d_engine->infer(batch);
}

std::vector<bare_engine::duration> bare_engine::time(int calls, int batch)
{
    expect_same_process();
    using clock = std::chrono::steady_clock;
    std::vector<duration> took(calls);
    for (auto& [wall, cpu] : took) {
        const uint64_t cpu_start = inference_cpu_ns() + d_engine->cpu_ns();
        const auto start = clock::now();
        d_engine->infer(batch);
        wall = std::chrono::duration<double>(clock::now() - start).count();
        cpu = (inference_cpu_ns() + d_engine->cpu_ns() - cpu_start) * 1e-9;
    }
    return took;
}

} // namespace gr::deeprx
