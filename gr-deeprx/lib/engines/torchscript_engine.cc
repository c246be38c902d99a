/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "torchscript_engine.h"
#include "cpu_instructions.h"
#include "device_engine.h"
#include "parameters.h"
#include "torch_archive.h"

#include <ATen/Parallel.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/version.h>

#include <algorithm>
#include <mutex>
#include <pthread.h>
#include <time.h>

namespace gr::deeprx {

namespace {

c10::Device parse_device(const std::string& text)
{
    const int index = cuda_index(text);
    if (index < 0)
        return c10::kCPU;
    const auto devices = static_cast<int>(torch::cuda::device_count());
    if (index >= devices)
        throw std::runtime_error("device \"" + text +
                                 "\" is not there: LibTorch " TORCH_VERSION " finds " +
                                 std::to_string(devices) +
                                 " CUDA devices; a torch wheel with CUDA and an NVIDIA driver are "
                                 "needed");
    return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
}

//! A module in \p device's memory, ready to run; what it gives is checked.
class torchscript_module
{
public:
    torchscript_module(const std::shared_ptr<torch_archive>& program,
                       c10::Device device,
                       const slot_geometry& slot)
        : d_llr_bits(llr_bits(slot))
    {
        for (const int bits : slot.bits())
            d_bits.push_back(bits);
        const std::vector<uint8_t>& mask = slot.data_mask();
        d_data = at::empty({ slot.symbols(), slot.n_subcarriers() }, at::kBool);
        std::copy(mask.begin(), mask.end(), d_data.data_ptr<bool>());
        d_data = d_data.to(device);
        // In this order: a frozen module no longer moves.
        d_module = torch::jit::load(program, c10::kCPU, /*load_debug_files=*/false);
        if (!d_module.find_method("forward"))
            throw std::runtime_error("the model has no method forward");
        d_module.to(device);
        d_module.eval();
        std::vector<std::string> kept; // beside forward
        if (d_module.find_method("estimate"))
            kept.push_back("estimate");
        d_module = torch::jit::freeze(d_module, kept);
    }

    //! LLRs float32 [batch, layers, n_sym, n_sc, >= bits] of grids and pilots [batch, ...].
    at::Tensor operator()(const at::Tensor& grid, const at::Tensor& pilots)
    {
        const auto llr =
            run("forward", { d_module._ivalue(), grid, pilots, d_data, d_bits }).toTensor();
        const auto grids = pilots.sizes().slice(0, 4); // [batch, layers, n_sym, n_sc]
        if (llr.dim() != 5 || llr.sizes().slice(0, 4) != grids || llr.size(4) < d_llr_bits ||
            llr.scalar_type() != at::kFloat)
            throw std::runtime_error("forward must give float32 LLRs [" + c10::Join(", ", grids) +
                                     ", >= " + std::to_string(d_llr_bits) + "], gave " +
                                     c10::toString(llr.scalar_type()) + " " +
                                     c10::str(llr.sizes()));
        return llr;
    }

    bool estimates() const { return d_module.find_method("estimate").has_value(); }

    //! Channel and noise, float32 [batch, layers, n_rx, n_sym, n_sc, 2] and [batch, n_rx].
    std::pair<at::Tensor, at::Tensor> estimate(const at::Tensor& grid, const at::Tensor& pilots)
    {
        const auto given = run("estimate", { d_module._ivalue(), grid, pilots, d_data });
        std::vector<int64_t> noise{ grid.size(0), grid.size(1) }, channel = pilots.sizes().vec();
        channel.insert(channel.begin() + 2, grid.size(1));
        const auto is = [](const c10::IValue& value, at::IntArrayRef shape) {
            return value.isTensor() && value.toTensor().sizes() == shape &&
                   value.toTensor().scalar_type() == at::kFloat;
        };
        if (given.isTuple() && given.toTupleRef().size() == 2) {
            const auto& both = given.toTupleRef().elements();
            if (is(both[0], channel) && is(both[1], noise))
                return { both[0].toTensor(), both[1].toTensor() };
        }
        throw std::runtime_error("estimate must give channel and noise, float32 [" +
                                 c10::Join(", ", channel) + "] and [" + c10::Join(", ", noise) +
                                 "], gave " + in_words(given));
    }

private:
    c10::IValue run(const char* method, std::initializer_list<c10::IValue> arguments)
    {
        d_stack.assign(arguments);
        torch::jit::Function& function = d_module.get_method(method).function();
        function.getSchema().checkAndNormalizeInputs(d_stack, {});
        function.run(d_stack);
        return std::move(d_stack.back());
    }

    static std::string in_words(const c10::IValue& value)
    {
        if (value.isTensor())
            return c10::toString(value.toTensor().scalar_type()) +
                   (" " + c10::str(value.toTensor().sizes()));
        if (!value.isTuple())
            return value.tagKind();
        std::string words;
        for (const auto& element : value.toTupleRef().elements())
            words += (words.empty() ? "" : " and ") +
                     (element.isTuple() ? "a tuple" : in_words(element));
        return words;
    }

    const int64_t d_llr_bits;
    c10::List<int64_t> d_bits; // one entry a layer
    at::Tensor d_data;         // bool [n_sym, n_sc]
    torch::jit::Module d_module;
    torch::jit::Stack d_stack; // kept for its memory
};

//! On the CPU: the LLRs are where the module leaves them.
class torchscript_engine : public engine
{
public:
    torchscript_engine(model_info info,
                       std::string description,
                       torchscript_module module,
                       const engine_parameters& p)
        : d_info(std::move(info)), d_description(std::move(description)),
          d_module(std::move(module))
    {
        const int n_sc = p.slot.n_subcarriers();
        d_grid = memory(p.grids, { p.max_batch, p.n_rx, p.slot.symbols(), n_sc, 2 });
        d_pilots = memory(p.pilots, { p.max_batch, p.slot.n_layers(), p.slot.symbols(), n_sc, 2 });
        write_noise(p, d_grid.data_ptr<float>(), d_pilots.data_ptr<float>());
        infer(1);
        estimate(1);
    }

    const model_info& info() const override { return d_info; }
    std::string description() const override { return d_description; }
    float* grid(int slot) override { return d_grid[slot].data_ptr<float>(); }
    float* pilots(int slot) override { return d_pilots[slot].data_ptr<float>(); }
    int llr_stride() const override { return static_cast<int>(d_llr.size(4)); }

    const float* infer(int batch) override
    try {
        c10::InferenceMode guard;
        d_llr = d_module(d_grid.narrow(0, 0, batch), d_pilots.narrow(0, 0, batch)).contiguous();
        return d_llr.data_ptr<float>();
    } catch (const std::exception& e) {
        throw std::runtime_error(one_line(e));
    }

    std::optional<estimates> estimate(int batch) override
    try {
        if (!d_module.estimates())
            return std::nullopt;
        c10::InferenceMode guard;
        const auto [channel, noise] =
            d_module.estimate(d_grid.narrow(0, 0, batch), d_pilots.narrow(0, 0, batch));
        d_channel = channel.contiguous();
        d_noise = noise.contiguous();
        return estimates{ d_channel.data_ptr<float>(), d_noise.data_ptr<float>() };
    } catch (const std::exception& e) {
        throw std::runtime_error(one_line(e));
    }

private:
    static at::Tensor memory(float* given, at::IntArrayRef shape)
    {
        return given ? at::from_blob(given, shape) : at::empty(shape);
    }

    const model_info d_info;
    const std::string d_description;
    torchscript_module d_module;
    at::Tensor d_grid;   // float32 [max_batch, n_rx, n_sym, n_sc, 2]
    at::Tensor d_pilots; // float32 [max_batch, n_layers, n_sym, n_sc, 2]
    at::Tensor d_llr;    // float32 [batch, n_layers, n_sym, n_sc, >= bits]
    at::Tensor d_channel, d_noise;
};

} // namespace

void expect_device(const std::string& device) { parse_device(device); }

std::unique_ptr<engine> make_torchscript_engine(const model_archive& archive,
                                                const engine_parameters& parameters)
{
    const auto device = parse_device(parameters.device);
    auto [info, program] = vet_model(archive, parameters.slot, parameters.n_rx, device.is_cuda());
    // what is int8 without an engine for that rounds, in float32
    const bool rounds = info.precision == "int8" && info.quantized_engine.empty();
    const std::string precision = rounds ? "float32" : info.precision;
    auto description = "TorchScript " TORCH_VERSION ", " + precision;
    const auto module = std::make_shared<torchscript_module>(program, device, parameters.slot);
    if (device.is_cpu()) {
        description += ", " + cpu_instructions_for(precision).name;
        return std::make_unique<torchscript_engine>(
            std::move(info), std::move(description), std::move(*module), parameters);
    }
    at::globalContext().setBenchmarkCuDNN(true); // the shapes of a slot never change
    // It compiles for longer, and nothing runs faster for it (docs/how-to/gpu.md). On the CPU it
    // is off.
    torch::jit::setTensorExprFuserEnabled(false);
    device_engine::estimator estimate;
    if (module->estimates())
        estimate = [module](const auto& y, const auto& p) { return module->estimate(y, p); };
    return std::make_unique<device_engine>(
        std::move(info),
        description + ", " + device.str(),
        [module](const auto& y, const auto& p) { return (*module)(y, p); },
        std::move(estimate),
        device,
        [device] { return make_stream_queue(device); },
        parameters);
}

void check_torchscript(const model_archive& archive, const engine_parameters& p)
{
    vet_model(archive, p.slot, p.n_rx, parse_device(p.device).is_cuda());
}

std::string torchscript_version() { return TORCH_VERSION; }

void set_inference_threads(int threads) { at::set_num_threads(threads); }

uint64_t inference_cpu_ns()
{
    // LibTorch's workers belong to the thread that calls it: ask each of them for its CPU clock.
    thread_local const std::vector<clockid_t> clocks = [] {
        std::vector<clockid_t> all;
        std::mutex mutex;
        const int threads = at::get_num_threads();
        at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
            clockid_t clock;
            if (pthread_getcpuclockid(pthread_self(), &clock) == 0) {
                std::lock_guard<std::mutex> lock(mutex);
                all.push_back(clock);
            }
        });
        return all;
    }();
    uint64_t total = 0;
    for (const clockid_t clock : clocks) {
        timespec time{};
        if (clock_gettime(clock, &time) == 0)
            total += uint64_t{ 1000000000 } * time.tv_sec + time.tv_nsec;
    }
    return total;
}

} // namespace gr::deeprx
