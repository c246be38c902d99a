/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"
#include "model_archive.h"

#include <memory>

namespace gr::deeprx {

/*!
 * \brief A model file that runs in a jail_process.
 * \throws std::runtime_error one line
 * \throws jail_lost
 */
std::unique_ptr<engine> make_jailed_engine(const model_archive& archive,
                                           const engine_parameters& parameters);

//! Makes a file's checks in a jail. \throws as make_jailed_engine()
void check_in_jail(const model_archive& archive, const engine_parameters& parameters);

} // namespace gr::deeprx
