/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "channel_estimate.h"
#include "slot_receiver.h"

#include <memory>
#include <string>
#include <vector>

namespace gr::deeprx {

//! Kernels that this program has and this processor runs, best first.
std::vector<const equaliser_kernel*> equaliser_kernels();

/*!
 * \brief Receivers without a net: from a slot's grid to its LLRs.
 *
 * - ls_lmmse: least squares, neighbouring pilots averaged; LMMSE over antennas and users with the
 *   covariance of noise and interference; exact LLRs.
 * - sure_lmmse: the same with pilots smoothed as the slot asks for: smoothing_estimator.
 * - gnb: what an open gNB does by default: gnb_estimator, zero forcing, max-log LLRs in 8 bits.
 */
class classical_receiver : public slot_receiver
{
public:
    enum class kind { ls_lmmse, sure_lmmse, gnb }; // as classical_names() has them
    static const equaliser_kernel& best();

    /*!
     * \param n_rx antennas, 1 to 4
     * \throws std::invalid_argument if it cannot receive such slots
     */
    classical_receiver(const pilot_layout& layout,
                       int n_rx,
                       kind k,
                       const equaliser_kernel& kernel = best());

    int llr_stride() const override { return d_job.llr_stride; }
    //! LLRs are 0 where there is no data.
    void receive(const float* grid, const float* pilots, float* llr) override;
    void estimate(const float* grid, const float* pilots) override
    {
        const stage_clock::scope stage(d_estimator->clock, "estimate");
        d_estimator->update(grid, pilots);
    }
    void copy_channel(float* to) const override;
    void copy_noise(float* to) const override;
    void set_clock(stage_clock* clock) override { d_estimator->clock = clock; }

private:
    void invert_covariance();

    const pilot_layout d_layout;
    const int d_n_rx;
    const equaliser_kernel& d_kernel;
    std::unique_ptr<channel_estimator> d_estimator;
    std::vector<std::vector<float>> d_levels; // of each layer
    symbol_job d_job{};
};

//! ls-lmmse, sure-lmmse, gnb.
const std::vector<std::string>& classical_names();

//! Those that receive slots of so many layers with so many antennas.
std::vector<std::string> classical_names_for(int n_layers, int n_rx);

//! \throws std::invalid_argument if the name is none of them
classical_receiver::kind classical_kind(const std::string& name);

} // namespace gr::deeprx
