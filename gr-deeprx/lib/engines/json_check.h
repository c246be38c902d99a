/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <string_view>

namespace gr::deeprx {

/*!
 * \brief Refuses a deeprx.json that two readers could take for two: one that is not an object of
 * JSON in UTF-8, has a key twice, numbers beyond double, control characters in its texts, or is
 * nested too deep.
 * \throws std::runtime_error one line
 */
void check_json(std::string_view text);

} // namespace gr::deeprx
