/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>

#include <string>
#include <vector>

namespace gr::deeprx {

//! What can compute a receiver, with versions: "TorchScript 2.13.0", "OpenVINO 2026.4.1".
DEEPRX_API std::vector<std::string> engines();

/*!
 * \brief This processor's instructions for arithmetic at a precision: "AVX-512 BF16", "AMX", ...
 * \param precision "float32", "bfloat16" or "int8"
 * \return empty: it has none, and models of this precision run slowly on it
 */
DEEPRX_API std::string instructions(const std::string& precision);

} // namespace gr::deeprx
