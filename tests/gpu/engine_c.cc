/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The engine as C functions, for Python's ctypes: no GNU Radio, any Python.
 */

#include "../cpp/slot_of.h"
#include "engine.h"

#include <ATen/Context.h>

#include <algorithm>
#include <chrono>
#include <vector>

using gr::deeprx::engine;
using gr::deeprx::slot_geometry;
using seconds = std::chrono::duration<double>;
using std::chrono::steady_clock;

namespace {

std::string error; // of the last call that failed

//! What f gives; what was given as `failed`, and the error kept, where it throws.
template <typename F, typename T>
T guarded(F f, T failed)
try {
    return f();
} catch (const std::exception& e) {
    error = e.what();
    return failed;
}

} // namespace

extern "C" {

const char* engine_error() { return error.c_str(); }

//! NULL on failure. tf32: convolutions of float32 in TF32.
engine* engine_load(const char* path,
                    int n_prb,
                    int n_rx,
                    const char* modulation,
                    const char* device,
                    int threads,
                    int max_batch,
                    int tf32)
{
    return guarded(
        [&] {
            at::globalContext().setAllowTF32CuDNN(tf32);
            gr::deeprx::set_inference_threads(threads);
            const auto slot = slot_of(n_prb, modulation, { 2, 11 }, 0);
            return gr::deeprx::load_engine(
                       path, { slot, n_rx, device, threads, max_batch, "torchscript" })
                .release();
        },
        static_cast<engine*>(nullptr));
}

void engine_free(engine* e) { delete e; }

const char* engine_description(engine* e)
{
    static std::string text;
    text = e->description();
    return text.c_str();
}

int engine_llr_stride(engine* e) { return e->llr_stride(); }
float* engine_grid(engine* e, int slot) { return e->grid(slot); }
float* engine_pilots(engine* e, int slot) { return e->pilots(slot); }

//! NULL on failure.
const float* engine_infer(engine* e, int batch)
{
    return guarded([&] { return e->infer(batch); }, static_cast<const float*>(nullptr));
}

//! 0, or 1 on failure.
int engine_prepare(engine* e, int batch)
{
    return guarded([&] { return e->prepare(batch), 0; }, 1);
}

//! Seconds of each of so many calls of infer(), one after another. 0, or 1 on failure.
int engine_time(engine* e, int batch, int calls, double* took)
{
    return guarded(
        [&] {
            for (int call = 0; call < calls; call++) {
                const auto start = steady_clock::now();
                e->infer(batch);
                took[call] = seconds(steady_clock::now() - start).count();
            }
            return 0;
        },
        1);
}

/*
 * Seconds of so many batches, as many under way as the engine takes, every slot written from a
 * buffer and read into one, as the block does. Negative on failure.
 */
double engine_stream(engine* e, int batch, int batches, int grid_floats, int llr_floats)
{
    return guarded(
        [&] {
            const std::vector<float> samples(grid_floats, 0.5f);
            std::vector<float> llrs(llr_floats);
            const int depth = e->depth();
            const auto start = steady_clock::now();
            for (int i = 0; i < batches + depth; i++) {
                if (i >= depth) {
                    const float* llr = e->collect();
                    for (int slot = 0; slot < batch; slot++)
                        std::copy_n(llr + slot * llr_floats, llr_floats, llrs.data());
                }
                if (i < batches) {
                    for (int slot = 0; slot < batch; slot++)
                        std::copy_n(samples.data(), grid_floats, e->grid(slot));
                    e->submit(batch);
                }
            }
            return seconds(steady_clock::now() - start).count();
        },
        -1.0);
}
}
