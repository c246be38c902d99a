/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"
#include "model_archive.h"

#include <memory>
#include <string>

namespace gr::deeprx {

/*!
 * \throws std::invalid_argument the device is not "cpu", "cuda" or "cuda:<n>"
 * \throws std::runtime_error it is not there
 */
void expect_device(const std::string& device);

/*!
 * \brief Checks a model file and loads its TorchScript.
 * \throws std::runtime_error what was expected and what was found
 */
std::unique_ptr<engine> make_torchscript_engine(const model_archive& archive,
                                                const engine_parameters& parameters);

//! Makes its checks, and runs nothing. \throws as it does
void check_torchscript(const model_archive& archive, const engine_parameters& parameters);

} // namespace gr::deeprx
