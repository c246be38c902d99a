/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_loader.h"
#include "cpu_instructions.h"
#include "first_texts.h"
#include "printable.h"

#include <utility>

namespace gr::deeprx {

model_loader::model_loader(const engine_parameters& parameters, gr::logger_ptr logger)
    : d_cancelled(std::make_shared<std::atomic<bool>>(false)), d_parameters(parameters),
      d_sizes(parameters.max_batch), d_logger(std::move(logger))
{
    d_parameters.cancelled = d_cancelled;
}

loaded_model model_loader::open(const std::string& path,
                                const std::optional<model_bytes>& bytes) const
{
    set_inference_threads(d_parameters.threads);
    auto engine = load_engine(path, d_parameters, bytes);
    say_once(engine->info(), engine->description());
    return { std::move(engine), {} };
}

loaded_model model_loader::load(const std::string& path, bool bound) const
{
    auto model = open(path);
    naming_file(path, [&] { warm_up(model, bound); });
    return model;
}

loaded_model model_loader::load_first(const std::string& path,
                                      const std::optional<model_bytes>& bytes) const
{
    auto model = open(path, bytes);
    if (model.engine->any_thread())
        naming_file(path, [&] { warm_up(model, false); });
    return model;
}

void model_loader::warm_up(loaded_model& model, bool bound) const
{
    if (bound)
        model.engine->stay_bound();
    if (model.batch_seconds.empty() || !model.engine->any_thread())
        model.batch_seconds = model.engine->warm_up(d_sizes.all());
}

//! Once in a process: who measures many points makes as many flowgraphs.
void model_loader::say_once(const model_info& info, const std::string& engine) const
{
    static first_texts said;
    std::string line = printable(info.name, 100) + ": " + printable(engine);
    if (!info.trained.empty())
        line += "; trained for " + info.trained + ": beyond, a classical receiver can be better";
    if (said.put(line) == first_texts::place::known)
        return;
    d_logger->info("{:s}", line);
    if (engine.rfind("native", 0) == 0) // in float32 there, as fast as a file in float32
        return;
    const auto instructions = cpu_instructions_for(info.precision);
    if (d_parameters.device == "cpu" && !instructions.native)
        d_logger->warn("{:s} is made for {:s}, and this processor has no instructions for that: "
                       "{:s} does it instead, slowly",
                       printable(info.name, 100),
                       info.precision,
                       instructions.name);
}

} // namespace gr::deeprx
