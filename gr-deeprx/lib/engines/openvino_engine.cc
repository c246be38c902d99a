/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "openvino_engine.h"
#include "cpu_instructions.h"
#include "ir_vetting.h"

#include <openvino/core/attribute_visitor.hpp>
#include <openvino/frontend/manager.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/openvino.hpp>
#include <tbb/task_arena.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <stdexcept>
#include <unordered_set>
#include <utility>
#include <vector>

namespace gr::deeprx {

namespace {

//! OpenVINO's plugins are loaded once for the process.
ov::Core& core()
{
    static ov::Core instance;
    return instance;
}

using weights_buffer = std::shared_ptr<ov::AlignedBuffer>;

//! What an IR's reader takes weights in; only a constant makes one.
struct buffer_of : ov::AttributeVisitor {
    explicit buffer_of(ov::op::v0::Constant constant) { constant.visit_attributes(*this); }

    void on_adapter(const std::string&, ov::ValueAccessor<void>& value) override
    {
        if (auto* held = dynamic_cast<ov::DirectValueAccessor<weights_buffer>*>(&value))
            buffer = held->get();
    }

    weights_buffer buffer;
};

/*
 * As ov::Core::read_model(), which looks for its reader in the file system every time: in a jail
 * there is none any more.
 */
std::shared_ptr<ov::Model> read_ir(const std::string& xml, std::string& weights)
{
    static const auto reader = ov::frontend::FrontEndManager().load_by_framework("ir");
    std::istringstream text(xml);
    std::istream* stream = &text;
    const ov::op::v0::Constant data(
        ov::Tensor(ov::element::u8, { weights.size() }, weights.data()));
    return reader->convert(reader->load(stream, buffer_of(data).buffer));
}

//! The cause: OpenVINO puts the places in its sources before it.
std::string last_line(std::string text)
{
    text.erase(text.find_last_not_of(" \n") + 1);
    const size_t start = text.rfind('\n');
    return start == std::string::npos ? text : text.substr(start + 1);
}

[[noreturn]] void rethrow(const std::exception& e)
{
    throw std::runtime_error("the OpenVINO IR: " + last_line(e.what()));
}

std::string text(const ov::AnyMap& about, const std::string& key)
{
    const auto entry = about.find(key);
    return entry == about.end() ? "" : entry->second.as<std::string>();
}

//! Precision and instructions of most of the layers that multiply.
std::string arithmetic(const ov::CompiledModel& compiled)
{
    static const std::map<std::string, std::string> precisions{ { "f32", "float32" },
                                                                { "bf16", "bfloat16" },
                                                                { "f16", "float16" },
                                                                { "u8", "int8" },
                                                                { "i8", "int8" } };
    std::map<std::string, int> counted;
    for (const auto& op : compiled.get_runtime_model()->get_ordered_ops()) {
        const auto& about = op->get_rt_info();
        const std::string layer = text(about, "layerType");
        if (layer != "Convolution" && layer != "FullyConnected" && layer != "Deconvolution")
            continue;
        const std::string runtime = text(about, "runtimePrecision");
        const auto known = precisions.find(runtime);
        const std::string precision = known == precisions.end() ? runtime : known->second;
        const std::string primitive = text(about, "primitiveType"); // "brgconv_avx512_bf16", ...
        const std::string best = cpu_instructions_for(precision).name;
        const auto says = [&](const char* sign) { return primitive.find(sign) != primitive.npos; };
        const bool amx = best == "AMX", avx512 = best.rfind("AVX-512", 0) == 0;
        // "..._avx512_amx" where AMX does it
        const bool used = amx ? says("amx") : avx512 == says("avx512");
        counted[precision + ", " + (used ? best : primitive)]++;
    }
    if (counted.empty())
        return "float32, " + cpu_instructions_for("float32").name;
    return std::max_element(
               counted.begin(), counted.end(), [](auto& a, auto& b) { return a.second < b.second; })
        ->first;
}

//! The layers' axis, which an IR of one layer does without.
ov::Shape of_layers(int n_layers, const ov::Shape& of_one)
{
    ov::Shape shape{ 1 };
    if (n_layers > 1)
        shape.push_back(n_layers);
    shape.insert(shape.end(), of_one.begin(), of_one.end());
    return shape;
}

ov::Shape with_batch(ov::Shape shape, size_t batch)
{
    shape[0] = batch;
    return shape;
}

class openvino_engine : public engine
{
public:
    openvino_engine(const std::string& xml,
                    std::string weights,
                    const model_info& info,
                    const engine_parameters& p)
        : d_info(info), d_weights(std::move(weights)),
          d_bits(llr_bits(p.slot)), d_data_shape{ size_t(p.slot.symbols()),
                                                  size_t(p.slot.n_subcarriers()) },
          d_grid_shape{ 1, size_t(p.n_rx), d_data_shape[0], d_data_shape[1], 2 },
          d_pilots_shape(of_layers(p.slot.n_layers(), { d_data_shape[0], d_data_shape[1], 2 })),
          d_llr_shape(of_layers(p.slot.n_layers(), { d_data_shape[0], d_data_shape[1], d_bits })),
          d_data(p.slot.data_mask()),
          d_memory(p.grids ? 0
                           : p.max_batch *
                                 (ov::shape_size(d_grid_shape) + ov::shape_size(d_pilots_shape))),
          d_grid(p.grids ? p.grids : d_memory.data()),
          d_pilots(p.grids ? p.pilots : d_grid + p.max_batch * ov::shape_size(d_grid_shape)),
          d_llrs(p.llrs)
    {
        vet_ir(xml, d_weights.size());
        d_model = read_ir(xml, d_weights);
        d_model->get_rt_info().clear(); // it could hold settings of the runtime
        if (d_model->outputs().size() != 1)
            throw std::runtime_error("the OpenVINO IR must have one output, has " +
                                     std::to_string(d_model->outputs().size()));
        for (const auto& input : d_model->inputs()) {
            const auto is = [&](const char* name) {
                return input.get_names() == std::unordered_set<std::string>{ name };
            };
            if (!is("y") && !is("p") && !is("d"))
                throw std::runtime_error("the OpenVINO IR must have the inputs y, p and d, has " +
                                         input.get_node()->get_friendly_name());
        }

        write_noise(p, d_grid, d_pilots);
        d_stride = sized_for(1).compiled.output().get_shape().back();
        d_description = "OpenVINO " + openvino_version() + ", " + arithmetic(sized_for(1).compiled);
    }

    const model_info& info() const override { return d_info; }
    std::string description() const override { return d_description; }
    float* grid(int slot) override { return d_grid + slot * ov::shape_size(d_grid_shape); }
    float* pilots(int slot) override { return d_pilots + slot * ov::shape_size(d_pilots_shape); }
    int llr_stride() const override { return static_cast<int>(d_stride); }

    // OpenVINO's arena would take the thread to any of the process's cores while it computes.
    void stay_bound() override
    {
        if (!std::exchange(d_bound, true))
            d_sized.clear();
    }

    const float* infer(int batch) override
    try {
        auto& request = sized_for(batch).request;
        if (d_bound)
            d_one_thread.execute([&] { request.infer(); });
        else
            request.infer();
        return request.get_output_tensor().data<const float>();
    } catch (const ov::Exception& e) {
        rethrow(e);
    }

private:
    //! The model at one batch size, which reads the buffers in place.
    struct sized {
        ov::CompiledModel compiled;
        ov::InferRequest request;
    };

    sized& sized_for(int batch)
    {
        const auto entry = d_sized.find(batch);
        return entry == d_sized.end() ? d_sized.emplace(batch, compile(batch)).first->second
                                      : entry->second;
    }

    sized compile(size_t batch)
    {
        std::map<std::string, ov::Tensor> tensors{
            { "y", { ov::element::f32, with_batch(d_grid_shape, batch), d_grid } },
            { "p", { ov::element::f32, with_batch(d_pilots_shape, batch), d_pilots } },
            { "d", { ov::element::boolean, d_data_shape, d_data.data() } },
        };
        const auto model = d_model->clone();
        std::map<std::string, ov::PartialShape> shapes;
        for (const auto& input : model->inputs())
            shapes[input.get_any_name()] = tensors.at(input.get_any_name()).get_shape();
        model->reshape(shapes);
        sized result;
        result.compiled = core().compile_model(
            model,
            "CPU",
            ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
            ov::hint::inference_precision(ov::element::f32), // the IR's own is kept
            ov::hint::enable_cpu_pinning(false),             // the work thread's affinity decides
            ov::num_streams(1),
            ov::inference_num_threads(1),
            ov::AnyMap::value_type("EXCLUSIVE_ASYNC_REQUESTS", d_bound)); // no arena of its own
        const auto output = result.compiled.output();
        const ov::Shape& llr = output.get_shape();
        ov::Shape expected = with_batch(d_llr_shape, batch);
        if (llr.size() == expected.size())
            expected.back() = std::max(expected.back(), llr.back());
        if (llr != expected || output.get_element_type() != ov::element::f32)
            throw std::runtime_error(
                "the OpenVINO IR must give float32 LLRs " +
                with_batch(d_llr_shape, batch).to_string() + " or more at the end, gives " +
                output.get_element_type().get_type_name() + " " + llr.to_string());
        result.request = result.compiled.create_infer_request();
        for (const auto& input : result.compiled.inputs())
            result.request.set_tensor(input, tensors.at(input.get_any_name()));
        if (d_llrs && llr.back() == d_bits)
            result.request.set_tensor(output, { ov::element::f32, llr, d_llrs });
        return result;
    }

    const model_info d_info;
    std::string d_weights; // the compiled model may point into it
    const size_t d_bits;
    const ov::Shape d_data_shape;
    const ov::Shape d_grid_shape;   // of one slot
    const ov::Shape d_pilots_shape; // of one slot
    const ov::Shape d_llr_shape;    // of one slot
    std::vector<uint8_t> d_data;    // REs that carry data
    std::vector<float> d_memory;    // empty: the caller's
    float* const d_grid;            // [max_batch, n_rx, n_sym, n_sc, 2]
    float* const d_pilots;          // [max_batch, n_layers, n_sym, n_sc, 2]
    float* const d_llrs; // the caller's [max_batch, n_layers, n_sym, n_sc, bits], or none
    size_t d_stride = 0;
    std::string d_description;
    std::shared_ptr<ov::Model> d_model;
    std::map<int, sized> d_sized; // by batch
    bool d_bound = false;
    tbb::task_arena d_one_thread{ 1 }; // for what is bound: a little slower than OpenVINO's own
};

} // namespace

std::string openvino_version()
{
    const std::string build = ov::get_openvino_version().buildNumber; // "2026.4.1-22982-..."
    return build.substr(0, build.find('-'));
}

std::unique_ptr<engine> make_openvino_engine(const std::string& xml,
                                             std::string weights,
                                             const model_info& info,
                                             const engine_parameters& parameters)
try {
    return std::make_unique<openvino_engine>(xml, std::move(weights), info, parameters);
} catch (const ov::Exception& e) {
    rethrow(e);
}

} // namespace gr::deeprx
