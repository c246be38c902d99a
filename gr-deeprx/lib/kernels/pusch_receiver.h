/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "channel_estimate.h"
#include "plane_sum.h"
#include "planes.h"
#include "pusch_kernel.h"
#include "pusch_net.h"
#include "pusch_stages.h"
#include "slot_receiver.h"

#include <complex>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gr::deeprx {

//! Kernels that this program has and this processor runs, best first.
std::vector<const pusch_kernel*> pusch_kernels();

//! That for bfloat16; null: this program or this processor has none.
const packed_kernel* pusch_pairs();

//! Those for int8, best first.
std::vector<const packed_kernel*> pusch_quads();

//! What is to compute a file of this precision; null: pusch_kernels()'s best, in float32, as there
//! is none, or none that is faster.
const packed_kernel* pusch_packed(const std::string& precision);

/*!
 * \brief PuschRx (training/deeprx_training/receivers/pusch.py) for slots of one kind, in float32,
 * or with the nets of positions in bfloat16 or int8.
 *
 * Everything is computed on planes of positions, a PRB of a symbol each: real and imaginary parts
 * of a PRB's 12 subcarriers are 24 planes, as are a convolution's channels. So grids become planes
 * once, and LLRs come of planes once.
 */
class pusch_receiver : public slot_receiver
{
public:
    static const pusch_kernel& best();

    /*!
     * \param n_rx antennas, 1 to 4
     * \param packed computes these nets beyond their first layers; null: the kernel, in float32
     * \throws std::invalid_argument if it cannot receive such slots
     * \throws std::runtime_error if this net cannot
     */
    pusch_receiver(const pilot_layout& layout,
                   int n_rx,
                   const pusch_net& net,
                   const pusch_kernel& kernel = best(),
                   const packed_kernel* packed = nullptr);

    int llr_stride() const override { return d_llr_stride; }
    void receive(const float* grid, const float* pilots, float* llr) override;
    void estimate(const float* grid, const float* pilots) override;
    void copy_channel(float* to) const override;
    void copy_noise(float* to) const override;
    void set_clock(stage_clock* clock) override { d_kernel.set_clock(clock); }

private:
    using matrix = std::complex<double>[most_antennas][most_antennas];

    //! How many there are of what.
    struct sizes {
        sizes(const pilot_layout& layout, int n_rx);
        int layers, antennas, parts, symbols, dmrs, prb, pilots, bits[most_layers];
        int stride, positions; // of the grids' planes: rows of stride positions
        int quads;             // of rows that are folded at once
    };
    //! One sum, or one of each fold of rows.
    using convolution = std::vector<plane_sum>;
    //! A net's layers, without what comes from inputs that have their own way in.
    struct body {
        //! \param folded pitch of folds of planes that it takes; 0: it folds none
        body(const residual_net& net,
             int outputs,
             int pitch,
             int stride,
             int folded = 0,
             int together = 1);
        int together; // planes in one
        int channels;
        std::vector<std::pair<convolution, convolution>> blocks;
        plane_sum last;
    };
    struct round_stage {
        plane_sum seen;                       // what differs from position to position
        plane_sum columns;                    // what differs from PRB to PRB
        std::vector<float> rows[most_layers]; // what is known of each symbol: [channels][symbols]
        body net;
        std::vector<float> into; // [12][basis]
        plane_sum over_frequency;
        std::vector<float> taps; // over time
        plane_sum back;
        plane_sum own;
        plane_sum interference_seen;
        body interference;
    };

    int folded_pitch() const { return d_kernel.together() > 1 ? 0 : d_folded.pitch(); }
    round_stage stage_of(const pusch_net::correction& round) const;
    void lay_out_slot(const pilot_layout& layout);
    void lay_out_windows(const pusch_net& net);
    void lay_out_pilot_net(const residual_net& net);
    std::vector<float> slot_numbers() const;

    void least_squares(const float* grid, const float* pilots);
    void turn_back();
    void whiten();
    void know(const float* pilots);
    void smooth(int layer);
    int best_window(int layer) const;
    void see_pilots(int layer);
    void steer_pilots(int layer, int plain);
    void run(const body& net,
             const planes& a,
             const planes& b,
             const planes& out,
             int out_first,
             int n,
             const int32_t* mask) const;
    void convolve(const convolution& by,
                  int channels,
                  const planes& from,
                  const planes& to,
                  bool add,
                  bool relu,
                  int n,
                  const int32_t* mask) const;
    void run_pairs(const body& net, const planes& a, const planes& b, sum_job last) const;
    void run_quads(const body& net, const planes& a, const planes& b, sum_job last) const;
    void correct(const round_stage& stage);
    bool is_calm();
    double unexplained(const planes& channel) const;
    void guard();
    void whiten_interference(const round_stage& stage);
    void lay_out_reliability(const residual_net& net);
    void judge(float* llr);
    void shrink(const float* judged, float whole, float* excess) const;
    std::vector<float> rows_of(const layer& first, int known, int layer) const;
    void mix(int layer,
             const float* gates,
             int mode,
             int n_modes,
             int window,
             int n_windows,
             const planes& to);
    grid_view grid(const planes& channel) const;

    pusch_stages d_kernel;
    const sizes d_n;
    const pusch_numbers d_numbers;
    const int d_bank_size; // windows
    const int d_n_steered; // planes of a layer: what steers, hints, what the judge sees beside them
    const bool d_paired;
    const float d_boost; // power of a pilot
    const std::vector<int> d_dmrs;
    int d_odd[most_layers]; // whether pilots are on odd subcarriers
    int d_llr_stride;

    // of PRBs
    planes d_prb_mask, d_turn, d_z, d_bank, d_about, d_pilot_first, d_pilot_a, d_pilot_b, d_gates,
        d_columns, d_shares, d_covariances, d_left, d_left_a, d_left_b, d_left_weights, d_prb_white,
        d_one;
    std::vector<planes> d_edges; // what is left of each window at the edges
    std::vector<plane_sum> d_windows;
    std::unique_ptr<plane_sum> d_learned[2];
    std::unique_ptr<plane_sum> d_pilot_seen;
    std::unique_ptr<body> d_pilot_net;
    std::vector<float> d_modes;
    std::vector<float> d_fits;         // modes at DMRS symbols
    float d_own[pusch_net::n_windows]; // mean weight of a pilot in its own estimate

    // of PRBs of symbols
    planes d_mask, d_data, d_y, d_h, d_plain, d_apart, d_known, d_seen, d_inner, d_innovation,
        d_first, d_a, d_b, d_folded, d_convolved, d_steer, d_filtered, d_gated, d_own_weight,
        d_left_sums, d_noise_sums, d_interference, d_x, d_log_sinr, d_noise, d_judge_a, d_judge_b,
        d_judged, d_share_of_9, d_data_of_9, d_nothing;
    bool d_whitened; // whether d_interference is of this slot
    bool d_calm;     // whether one round is enough for it
    std::vector<uint8_t> d_all_data;
    std::vector<round_stage> d_rounds;
    plane_sum d_sum, d_sum_of_9;
    std::unique_ptr<plane_sum> d_judge_seen;
    std::unique_ptr<body> d_judge;
    std::vector<float> d_judge_rows[most_layers], d_rows_now; // [channels][symbols]
    std::vector<float> d_judge_whole, d_judge_mean;           // weights of what is a slot's
    std::vector<float> d_data_share;                          // of each symbol's REs

    // of the last slot
    std::vector<float> d_rows;        // pilots of least squares, [layers][n_rx][dmrs][2][pilots]
    std::vector<float> d_differences; // of a DMRS symbol's pilots, [n_rx][2][pilots]
    std::vector<float> d_phases[2];   // of pilots: re, im
    double d_limit;                   // of what a channel leaves of pilots
    double d_step[most_layers];       // radians a subcarrier
    matrix d_white, d_colour;         // and its inverse
    float d_white_float[most_antennas][most_antennas][2];
};

} // namespace gr::deeprx
