/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "torchscript_engine.h"

#include <stdexcept>

namespace gr::deeprx {

std::unique_ptr<engine> load_engine(const std::string& path, const engine_parameters& parameters)
{
    expect_device(parameters.device);
    try {
        return make_torchscript_engine(model_archive::open(path), parameters);
    } catch (const std::exception& e) {
        throw std::runtime_error("model file '" + path + "': " + one_line(e));
    }
}

} // namespace gr::deeprx
