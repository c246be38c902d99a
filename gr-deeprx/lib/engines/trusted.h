/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"

#include <string>
#include <vector>

namespace gr::deeprx {

class model_archive;

//! Whether a file may run in the receiver's process: it came with this installation when that was
//! built, or the user trusts it.
bool is_trusted(const std::string& sha256, const std::vector<std::string>& trust);

/*!
 * \brief Whether a file runs in this process, and not in a jail.
 * \throws std::runtime_error one line: it may run nowhere
 */
bool runs_here(const model_archive& archive, const engine_parameters& parameters);

/*!
 * \brief Files that a user trusts, by what they hold now.
 * \param files paths; the SHA-256 of a file (64 digits in lower case) stands for itself
 * \return sha256 of each
 * \throws std::runtime_error one line that names the file
 */
std::vector<std::string> hashes_of(const std::vector<std::string>& files);

} // namespace gr::deeprx
