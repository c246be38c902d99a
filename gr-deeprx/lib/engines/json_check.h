/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <string>
#include <string_view>

namespace gr::deeprx {

/*!
 * \brief Refuses JSON of a model file that two readers could take for two: what is not an object of
 * JSON in UTF-8, has a key twice, numbers beyond double, unprintable characters in its texts, or is
 * nested too deep.
 * \param what it is, as the exception's text begins
 * \throws std::runtime_error one line
 */
void check_json(std::string_view text, const std::string& what = "deeprx.json");

} // namespace gr::deeprx
