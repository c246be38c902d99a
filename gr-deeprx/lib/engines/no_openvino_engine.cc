/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "openvino_engine.h"

namespace gr::deeprx {

std::string openvino_version() { return ""; }

std::unique_ptr<engine>
make_openvino_engine(const std::string&, std::string, const model_info&, const engine_parameters&)
{
    throw std::runtime_error("this gr-deeprx was built without OpenVINO");
}

} // namespace gr::deeprx
