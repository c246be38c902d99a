/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"

#include <memory>
#include <string>

namespace gr::deeprx {

//! "2026.4.1"; empty: the library was built without OpenVINO.
std::string openvino_version();

/*!
 * \brief Compiles an OpenVINO IR of a model's forward for these slots on the CPU.
 *
 * Inputs "y", "p" and maybe "d" as in the contract, one output: its LLRs. Arithmetic is what the IR
 * says: nothing is computed at less than its precision there. Inference runs in the calling thread.
 * \param xml, weights the IR; it is vetted first
 * \throws std::runtime_error one line
 */
std::unique_ptr<engine> make_openvino_engine(const std::string& xml,
                                             std::string weights,
                                             const model_info& info,
                                             const engine_parameters& parameters);

} // namespace gr::deeprx
