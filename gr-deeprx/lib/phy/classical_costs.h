/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "channel_estimate.h"
#include "equaliser_kernel.h"
#include "stage_clock.h"

namespace gr::deeprx {

/*!
 * \brief What stages of classical receivers cost, from their shapes.
 *
 * A multiplication, an addition, a comparison, a division and a root are a FLOP each; an
 * exponential and a logarithm as many as their polynomials take.
 */
//! Least squares, delay, covariance.
stage_cost cost_of_pilots(const pilot_layout& layout, int n_rx);
//! From pilots to channels of all subcarriers, at so many times.
stage_cost cost_of_planes(const pilot_layout& layout, int n_rx, int n_times);
//! Of an antenna.
stage_cost cost_of_low_pass(const pilot_layout& layout, int n_taps);
stage_cost cost_of(const symbol_job& job);

} // namespace gr::deeprx
