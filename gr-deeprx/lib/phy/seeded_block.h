/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief Bytes of the transport block that follows from a seed, a slot's index and a DMRS port, as
 * SlotConfig.block() in Python: a Gold sequence, most significant bit first.
 * \param size bits, in whole bytes
 */
std::vector<uint8_t> seeded_block(uint64_t seed, uint64_t slot_index, int port, int size);

} // namespace gr::deeprx
