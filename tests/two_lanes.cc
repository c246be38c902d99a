/* SPDX-License-Identifier: GPL-3.0-or-later */

// In libgnuradio-deeprx.so in place of load_engine.cc: the GPU's engine, lanes and all, with
// threads for its streams. Preloaded, it puts the block through its own tests with two batches
// under way.

#include "device_engine.h"
#include "thread_queue.h"
#include "torch_archive.h"
#include "torchscript_engine.h"

#include <torch/script.h>

namespace gr::deeprx {

namespace {

thread_queue::device the_device;

} // namespace

std::unique_ptr<engine> load_engine(const std::string& path,
                                    const engine_parameters& p,
                                    const std::optional<model_bytes>& bytes)
{
    expect_same_process();
    expect_device(p.device);
    try {
        const model_archive archive(bytes ? *bytes : read_model_file(path));
        const auto checked = make_torchscript_engine(archive, p);
        const auto& mask = p.slot.data_mask();
        const at::Tensor data =
            at::tensor(at::ArrayRef<uint8_t>(mask)).reshape({ p.slot.symbols(), -1 }).to(at::kBool);
        c10::List<int64_t> bits;
        for (const int of_layer : p.slot.bits())
            bits.push_back(of_layer);
        auto module = torch::jit::load(std::make_shared<torch_archive>(archive));
        module.eval();
        device_engine::estimator estimate;
        if (module.find_method("estimate"))
            estimate = [module, data](const at::Tensor& grid, const at::Tensor& pilots) {
                const auto given = module.get_method("estimate")({ grid, pilots, data });
                const auto& both = given.toTupleRef().elements();
                return std::pair(both[0].toTensor(), both[1].toTensor());
            };
        return std::make_unique<device_engine>(
            checked->info(),
            checked->description(),
            [module, data, bits](const at::Tensor& grid, const at::Tensor& pilots) mutable {
                return module.forward({ grid, pilots, data, bits }).toTensor();
            },
            std::move(estimate),
            c10::kCPU,
            [] { return std::make_unique<thread_queue>(the_device); },
            p);
    } catch (const std::exception& e) {
        throw std::runtime_error("model file '" + path + "': " + one_line(e));
    }
}

} // namespace gr::deeprx

extern "C" {

__attribute__((visibility("default"))) void lose_device() { gr::deeprx::the_device.lost = true; }

__attribute__((visibility("default"))) int most_under_way()
{
    return gr::deeprx::the_device.most_under_way;
}
}
