/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_engine.h"
#include "jailed_engine.h"
#include "local_engine.h"
#include "torch_archive.h"
#include "torchscript_engine.h"
#include "trusted.h"

namespace gr::deeprx {

namespace {

std::unique_ptr<engine> load_file(const std::string& path, const engine_parameters& p)
try {
    expect_device(p.device);
    const model_archive archive(read_model_file(path));
    return runs_here(archive, p) ? make_local_engine(archive, p) : make_jailed_engine(archive, p);
} catch (const std::invalid_argument&) {
    throw;
} catch (const std::exception& e) {
    throw std::runtime_error("model file '" + path + "': " + one_line(e));
}

} // namespace

std::unique_ptr<engine> load_engine(const std::string& model, const engine_parameters& p)
{
    return is_classical(model) ? make_classical_engine(model, p) : load_file(model, p);
}

} // namespace gr::deeprx
