/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"

#include <memory>
#include <string>

namespace gr::deeprx {

//! Whether this names a receiver that needs no model file: ls-lmmse, sure-lmmse or gnb.
bool is_classical(const std::string& name);

/*!
 * \brief Such a receiver, on the thread that calls it.
 * \throws std::runtime_error one line: what it cannot do that was asked for
 */
std::unique_ptr<engine> make_classical_engine(const std::string& name,
                                              const engine_parameters& parameters);

} // namespace gr::deeprx
