/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "channel_estimate.h"

namespace gr::deeprx {

/*!
 * \brief What an open gNB's receiver does by default (srsRAN Project, OCUDU), from its description:
 * each antenna on its own, frequency offset from the first two DMRS symbols, pilots averaged over
 * all of them, a raised-cosine low pass over frequency, noise from what is left at the pilots.
 */
class gnb_estimator : public channel_estimator
{
public:
    gnb_estimator(const pilot_layout& layout, int n_rx);
    void update(const float* grid, const float* pilots) override;

private:
    using samples = std::vector<std::complex<float>>;

    void match(const float* grid, const float* pilots, int antenna);
    void average(int antenna);
    void low_pass(int layer, int antenna);
    float noise(int antenna);
    std::complex<float>* matched(int layer, int time)
    {
        return &d_matched[(layer * d_n_times + time) * d_n_pilots];
    }

    const pilot_layout d_layout;
    const int d_n_rx;
    const int d_n_times;
    const int d_n_pilots;
    std::vector<float> d_taps;
    const int d_n_virtual; // pilots beyond each edge
    samples d_matched;     // [layers][times][pilots]: of the antenna at hand
    samples d_extended;    // [virtual, pilots, virtual]
    samples d_averages;    // [layers][pilots]: likewise
    std::vector<double> d_modulus, d_phase;
};

} // namespace gr::deeprx
