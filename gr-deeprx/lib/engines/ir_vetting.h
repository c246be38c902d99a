/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <string_view>

namespace gr::deeprx {

/*!
 * \brief Refuses an OpenVINO IR that is more than a graph of ordinary layers over its own weights.
 *
 * An IR is data: nothing in it is a program, and OpenVINO knows its layers by name and opset. This
 * reads the XML before OpenVINO does, and lets through layers of an allow-list of the public opsets
 * (no control flow, no state, no random numbers, no extensions), whose constants lie inside the
 * weights. How long or how much memory it computes is not bounded.
 * \param xml the IR's .xml
 * \param weights bytes of its .bin
 * \throws std::runtime_error one line: what is not allowed
 */
void vet_ir(std::string_view xml, size_t weights);

} // namespace gr::deeprx
