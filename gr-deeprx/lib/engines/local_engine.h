/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"
#include "model_archive.h"

#include <memory>

namespace gr::deeprx {

/*!
 * \brief Loads a model file into this process, whoever wrote it: a receiver does so with trusted
 * files, its jail with the others.
 * \throws std::runtime_error one line: what was expected and what was found
 */
std::unique_ptr<engine> make_local_engine(const model_archive& archive,
                                          const engine_parameters& parameters);

} // namespace gr::deeprx
