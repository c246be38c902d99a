/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "slot_geometry.h"

#include <cstdint>
#include <vector>

namespace gr::deeprx {

//! Copies n floats times \p factor. \return the largest magnitude, no finite one if any is not
float copy_scaled(const float* from, int n, float factor, float* to);

/*!
 * \brief The factor that brings a slot whose largest sample is \p peak to about unit power, where
 * models keep their smallest numbers far from it.
 * \return a power of two, which changes no digit; 1 for peaks of 3 to 6, as unit power has them
 */
float to_unit_power(float peak);

/*!
 * \brief A slot as engines take it: its subcarriers only, at about unit power.
 * \param streams of OFDM symbols, one an antenna, complex64 [symbols][fft_size], DC in the middle
 * \param first symbol of the slot in them
 * \param grid float32 [n_rx][symbols][n_subcarriers][2]
 * \return what they were multiplied by to be so, as to_unit_power(); 0: one is not finite
 */
float copy_grid(const slot_geometry& slot,
                const std::vector<const void*>& streams,
                int first,
                float* grid);

//! A slot's pilots, into float32 [n_layers][symbols][n_subcarriers][2] whose symbols without pilots
//! are zero.
void copy_pilots(const slot_geometry& slot, uint64_t slot_index, float* pilots);

//! Why a slot is dropped whose LLRs are not all finite, whatever receives it.
constexpr const char* not_finite = "the model gave NaN or infinite LLRs";

/*!
 * \brief A layer's LLRs in transmit bit order: symbol by symbol, subcarriers ascending, pilots left
 * out.
 * \param llr of the layer, as an engine gives them: float32 [symbols][n_subcarriers][stride]
 * \param sign 1 or -1, that they are multiplied by
 * \param out float32 [n_bits(layer)]
 * \return whether all are finite
 */
bool copy_llrs(
    const slot_geometry& slot, int layer, const float* llr, int stride, float sign, float* out);

} // namespace gr::deeprx
