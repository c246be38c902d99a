/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"
#include "slot_receiver.h"

#include <memory>
#include <string>

namespace gr::deeprx {

/*!
 * \brief C++ of ours as an engine, on the thread that calls it.
 * \param instructions that it was compiled for
 */
std::unique_ptr<engine> make_native_engine(const model_info& info,
                                           std::unique_ptr<slot_receiver> receiver,
                                           const std::string& instructions,
                                           const engine_parameters& parameters);

} // namespace gr::deeprx
