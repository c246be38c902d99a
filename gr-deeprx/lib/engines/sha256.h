/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <string>

namespace gr::deeprx {

//! SHA-256 (FIPS 180-4) of a byte string, as 64 hexadecimal digits.
std::string sha256(const std::string& bytes);

} // namespace gr::deeprx
