/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "torch_archive.h"
#include "torchscript_vetting.h"

#include <ATen/Context.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <stdexcept>

namespace gr::deeprx {

namespace {

void select_quantized_engine(const std::string& name)
{
    if (name.empty())
        return;
    std::string supported;
    for (const auto engine : at::globalContext().supportedQEngines()) {
        std::string engine_name = c10::toString(engine);
        std::transform(engine_name.begin(), engine_name.end(), engine_name.begin(), ::tolower);
        if (engine_name == name)
            return at::globalContext().setQEngine(engine);
        supported += (supported.empty() ? "" : ", ") + engine_name;
    }
    throw std::runtime_error("the model needs the quantised engine " + name +
                             ", LibTorch has: " + supported);
}

//! LibTorch 2.13 says on its first quantised tensor that these will go: not the user's concern.
class no_warnings : public c10::WarningHandler
{
    void process(const c10::Warning&) override {}
};

} // namespace

vetted_model
vet_model(const model_archive& archive, const slot_geometry& slot, int n_rx, bool on_cuda)
{
    vetted_model model{ stated_info(archive, slot, n_rx, on_cuda), nullptr };
    select_quantized_engine(model.info.quantized_engine);
    no_warnings handler;
    c10::WarningUtils::WarningHandlerGuard quiet(&handler);
    model.program = std::make_shared<torch_archive>(archive);
    vet_torchscript(model.program);
    return model;
}

} // namespace gr::deeprx
