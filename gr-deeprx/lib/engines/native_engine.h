/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"
#include "slot_receiver.h"

#include <functional>
#include <memory>
#include <string>

namespace gr::deeprx {

/*!
 * \brief C++ of ours as an engine: a slot takes one thread, and the slots of a batch so many at
 * once as the parameters say. \param make a receiver, one for each thread \param arithmetic
 * precision and the instructions that it was compiled for
 */
std::unique_ptr<engine>
make_native_engine(const model_info& info,
                   const std::function<std::unique_ptr<slot_receiver>()>& make,
                   const std::string& arithmetic,
                   const engine_parameters& parameters);

} // namespace gr::deeprx
