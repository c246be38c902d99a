/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <string_view>

namespace gr::deeprx {

/*!
 * \brief Refuses TorchScript source that LibTorch's compiler, which calls itself for every level of
 * nesting, could not take: blocks, brackets, chains of operators. What it does is not looked at.
 * \throws std::runtime_error one line
 */
void check_code(std::string_view source);

} // namespace gr::deeprx
