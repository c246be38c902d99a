/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <vector>

namespace gr::deeprx {

//! Pseudo-random sequence c(0 .. length-1) of TS 38.211 clause 5.2.1.
std::vector<uint8_t> gold_sequence(uint32_t c_init, int length);

/*!
 * \brief Bits that are added to a PUSCH's coded bits, of every slot alike (TS 38.211 clause
 * 6.3.1.1).
 * \param rnti 0 to 65535
 * \param n_id 0 to 1023
 * \throws std::invalid_argument for others
 */
std::vector<uint8_t> data_scrambling(int rnti, int n_id, int length);

} // namespace gr::deeprx
