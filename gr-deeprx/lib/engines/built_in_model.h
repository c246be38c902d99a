/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "slot_geometry.h"

#include <string>

namespace gr::deeprx {

/*!
 * \brief A model file for these slots, TorchScript and OpenVINO IR, that computes next to nothing.
 *
 * Who loads it has all that loading needs: libraries, plugins, what they read about the machine.
 * Its LLRs are a convolution of the pilots.
 */
std::string built_in_model(const slot_geometry& slot, int n_rx);

} // namespace gr::deeprx
