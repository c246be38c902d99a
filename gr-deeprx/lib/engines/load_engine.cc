/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_engine.h"
#include "data_form.h"
#include "jailed_engine.h"
#include "local_engine.h"
#include "torchscript_engine.h"
#include "trusted.h"

namespace gr::deeprx {

namespace {

std::unique_ptr<engine> load_file(const std::string& path,
                                  const std::optional<model_bytes>& bytes,
                                  const engine_parameters& p)
{
    expect_device(p.device);
    const model_archive archive(bytes ? *bytes : read_model_file(path));
    const auto obstacle = data_form_obstacle(archive, p);
    if (p.engine == "native" && !obstacle.empty())
        throw std::runtime_error("engine=\"native\": " + obstacle);
    const bool data = obstacle.empty() && (p.engine == "auto" || p.engine == "native");
    const bool programs = !torchscript_version().empty();
    if (data && !(programs && is_trusted(archive.sha256(), p.trust)))
        return make_data_form_engine(archive, p); // needs no jail, and none of the program runs
    if (!programs)
        return make_torchscript_engine(archive, p); // says what to do without it
    return runs_here(archive, p) ? make_local_engine(archive, p) : make_jailed_engine(archive, p);
}

} // namespace

std::unique_ptr<engine> load_engine(const std::string& model,
                                    const engine_parameters& p,
                                    const std::optional<model_bytes>& bytes)
{
    if (is_classical(model) && !bytes)
        return make_classical_engine(model, p);
    std::unique_ptr<engine> loaded;
    naming_file(model, [&] { loaded = load_file(model, bytes, p); });
    return loaded;
}

} // namespace gr::deeprx
