/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "cpu_instructions.h"
#include "engine.h"
#include "openvino_engine.h"

#include <gnuradio/deeprx/engines.h>

namespace gr::deeprx {

std::vector<std::string> engines()
{
    std::vector<std::string> found{ "TorchScript " + torchscript_version() };
    if (!openvino_version().empty())
        found.push_back("OpenVINO " + openvino_version());
    return found;
}

std::string instructions(const std::string& precision)
{
    const auto found = cpu_instructions_for(precision);
    return found.native ? found.name : "";
}

} // namespace gr::deeprx
