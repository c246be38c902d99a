/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"
#include "model_archive.h"

#include <memory>
#include <string>

namespace gr::deeprx {

/*!
 * \brief Why a file's weights cannot be run as data: it carries none, of no net that is known here,
 * or the receiver has other parameters than that takes. Empty: they can.
 */
std::string data_form_obstacle(const model_archive& archive, const engine_parameters& parameters);

/*!
 * \brief A file's weights, run by C++ of ours: nothing of the file is a program.
 * \throws std::runtime_error one line: what was expected and what was found
 */
std::unique_ptr<engine> make_data_form_engine(const model_archive& archive,
                                              const engine_parameters& parameters);

} // namespace gr::deeprx
