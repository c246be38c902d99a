/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

namespace gr::deeprx {

//! Copies n floats times \p factor. \return the largest magnitude, no finite one if any is not
float copy_scaled(const float* from, int n, float factor, float* to);

/*!
 * \brief The factor that brings a slot whose largest sample is \p peak to about unit power, where
 * models keep their smallest numbers far from it.
 * \return a power of two, which changes no digit; 1 for peaks of 3 to 6, as unit power has them
 */
float to_unit_power(float peak);

} // namespace gr::deeprx
