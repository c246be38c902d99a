/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace gr::deeprx {

//! A tensor where it lies in the file, row by row, at any address.
struct stored_tensor {
    std::string dtype; // as safetensors spells it: "F32"
    std::vector<int64_t> shape;
    std::string_view bytes;
};

/*!
 * \brief The tensors of a weights.safetensors by their names: the weights of a model file as data.
 *
 * All is bounded by model_rules, tensors fill the file without holes and overlaps, and each is as
 * long as its shape and type say.
 * \throws std::runtime_error one line
 */
std::map<std::string, stored_tensor> read_weights(std::string_view file);

} // namespace gr::deeprx
