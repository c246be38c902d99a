/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "channel_estimate.h"

namespace gr::deeprx {

/*!
 * \brief Least squares at the pilots, smoothed over frequency, linear between them.
 *
 * What deeprx_training.receivers.classical defines for one user of one CDM group and one or two
 * DMRS symbols, for all slots: each user's mean phase step from pilot to pilot is taken out before
 * anything is smoothed; noise and interference are the pilots' second differences. Two users on the
 * same pilots differ in signs, + + and + -: whatever smooths one removes the other, and noise shows
 * in second differences over every other pilot, which neither enters.
 */
class smoothing_estimator : public channel_estimator
{
public:
    /*!
     * \param sure smooth with the Hann window of up to 31 pilots that Stein's unbiased risk
     * estimate finds best for the slot, and from three DMRS symbols on over time, too: a constant,
     * a line, or nothing; else average neighbouring pilots in pairs
     */
    smoothing_estimator(const pilot_layout& layout,
                        int n_rx,
                        bool sure,
                        const equaliser_kernel& kernel);
    void update(const float* grid, const float* pilots) override;

private:
    struct window {
        std::vector<float> taps;
        struct edge {
            int pilot, first; // it is the sum over pilots from the first on
            std::vector<float> taps;
        };
        std::vector<edge> edges;
        float trace; // mean weight of a pilot in its own estimate
    };
    //! What becomes of the DMRS symbols of a pilot, [times][times].
    struct fit {
        std::vector<float> weights;
        float trace; // as a window's
    };
    stage_cost cost_of_windows() const;
    window make_window(int width) const;
    fit make_fit(int degree) const;
    void smooth(const window& w, const float* from, float* to) const;
    void smooth(const window& w, int layer, int antenna, int part);

    void match(const float* grid, const float* pilots);
    void take_out_delay();
    void estimate_noise();
    void smooth_best(int first_layer, int n_layers);
    void apply(const fit& f, const float* rows, int time);
    void between_pilots(int layer);

    int row_of(int layer, int antenna, int time) const
    {
        return (layer * d_n_rx + antenna) * d_n_times + time;
    }
    //! Pilots of a row, re (0) or im (1), zeros on both sides.
    float* pilots_of(int row, int part) { return &d_rows[(2 * row + part) * d_row] + d_margin; }

    const pilot_layout d_layout;
    const int d_n_rx;
    const bool d_sure;
    const equaliser_kernel& d_kernel;
    const int d_n_times;
    const int d_n_pilots;
    const int d_margin;
    const int d_row;
    std::vector<window> d_windows;
    std::vector<fit> d_fits;
    std::vector<float> d_rows;        // [layers][antennas][times][2][d_row]
    std::vector<float> d_smooth;      // [layers][times][d_n_pilots]
    std::vector<float> d_fitted;      // [d_n_pilots]
    std::vector<float> d_differences; // of a DMRS symbol's pilots, [antennas][2][d_n_pilots]
    std::vector<double> d_risks;      // [windows][fits]
    std::vector<float> d_turns;       // [layers][2][n_subcarriers]
};

} // namespace gr::deeprx
