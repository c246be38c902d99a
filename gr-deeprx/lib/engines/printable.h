/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <string>

namespace gr::deeprx {

/*!
 * \brief A stranger's text in one line of at most \p most bytes, "?" for what a terminal would
 * obey, see model_rules.json, and what is no UTF-8.
 */
std::string printable(const std::string& text, size_t most = 1000);

//! Whether nothing in \p text would become "?", and no space in it is another than " ", "\n", "\t".
bool has_printable_lines(const std::string& text);

} // namespace gr::deeprx
