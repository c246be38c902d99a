/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace gr::deeprx {

/*!
 * \brief Refuses a pickle that is more than what LibTorch writes: plain values, containers, objects
 * of the archive's classes, and tensors that lie within storages as long as their records.
 *
 * It follows the opcodes as the unpickler would, and builds nothing of what they name.
 * \param record_size bytes of the record of a storage's name; none where there is no such record
 * \throws std::runtime_error one line
 */
void check_pickle(std::string_view pickle,
                  const std::function<std::optional<size_t>(const std::string&)>& record_size);

} // namespace gr::deeprx
