/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <string>

namespace gr::deeprx {

/*!
 * \brief A stranger's text in one line of at most \p most bytes, "?" for what a terminal would
 * obey: control characters, those that turn the direction of writing, and what is no UTF-8.
 */
std::string printable(const std::string& text, size_t most = 1000);

} // namespace gr::deeprx
