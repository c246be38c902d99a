/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "device_queue.h"
#include "engine.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

// LibTorch 2.13 records graphs without CUDA's headers; before, only a build with them can.
#if __has_include(<ATen/accelerator/Graph.h>)
#include <ATen/accelerator/Graph.h>
#define DEEPRX_GRAPHS
#elif defined(DEEPRX_CUDA_TOOLKIT)
#include <ATen/cuda/CUDAGraph.h>
#define DEEPRX_GRAPHS
#endif

#include <optional>
#include <stdexcept>

namespace gr::deeprx {

namespace {

#if __has_include(<ATen/accelerator/Graph.h>)
using device_graph = at::accelerator::Graph;
constexpr auto this_thread_only = at::GraphCaptureMode::ThreadLocal;
#elif defined(DEEPRX_CUDA_TOOLKIT)
using device_graph = at::cuda::CUDAGraph;
constexpr auto this_thread_only = cudaStreamCaptureModeThreadLocal;
#endif

class stream_queue : public device_queue
{
public:
    explicit stream_queue(c10::Device device)
        : d_implementation(device.type()),
          d_stream(d_implementation.getStreamFromGlobalPool(device)), d_done(device.type())
    {
        // What other streams were given, the model's weights for one, is there from now on.
        d_implementation.synchronizeDevice(device.index());
    }

    void run(const work& task) override
    try {
        const c10::StreamGuard guard(d_stream);
        task();
        d_done.record(d_stream);
    } catch (const std::exception& e) {
        fail(e);
    }

    void wait() override
    try {
        d_done.synchronize();
    } catch (const std::exception& e) {
        fail(e);
    }

    work record(const work& task) override
    {
#ifdef DEEPRX_GRAPHS
        wait();
        const c10::StreamGuard guard(d_stream);
        auto graph = std::make_unique<device_graph>();
        // Other receivers of the process go on meanwhile, on their threads.
        graph->capture_begin(d_pool.value_or(c10::MempoolId_t{ 0, 0 }), this_thread_only);
        try {
            task();
        } catch (...) {
            try {
                graph->capture_end();
            } catch (const std::exception&) { // says only that the first one spoilt it
            }
            // LibTorch's allocator goes on asking a graph that was spoilt: it must stay.
            static_cast<void>(graph.release());
            throw;
        }
        graph->capture_end();
        d_pool = graph->pool();
        return [graph = std::shared_ptr<device_graph>(std::move(graph))] { graph->replay(); };
#else
        static_cast<void>(task);
        throw std::runtime_error("LibTorch " TORCH_VERSION " has none without the CUDA toolkit");
#endif
    }

private:
    //! After an error that nothing on the device outlives, every call gives it again.
    [[noreturn]] void fail(const std::exception& e) const
    {
        const std::string what = one_line(e);
        try {
            d_implementation.synchronizeDevice(d_stream.device_index());
        } catch (const std::exception&) {
            throw device_lost(d_stream.device().str() + " is lost: " + what);
        }
        throw std::runtime_error(what);
    }

    const c10::impl::VirtualGuardImpl d_implementation;
    const c10::Stream d_stream;
    c10::Event d_done;
    std::optional<c10::MempoolId_t> d_pool; // of the first graph, for all
};

} // namespace

std::unique_ptr<device_queue> make_stream_queue(c10::Device device)
{
    return std::make_unique<stream_queue>(device);
}

} // namespace gr::deeprx
