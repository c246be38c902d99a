/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>

namespace gr::deeprx {

//! Of root. For the calling thread and those that it starts. \throws std::runtime_error one line
void drop_capabilities();

/*!
 * \brief Gives up, for good and for all threads of this process, whatever is more than computing:
 * files, network, other processes, signals to them, more memory than \p memory bytes beyond what
 * it holds now, and every open descriptor.
 * \throws std::runtime_error one line: what this kernel does not do
 */
void give_up_rights(uint64_t memory);

} // namespace gr::deeprx
