/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace gr::deeprx {

struct tensor {
    std::vector<int> shape;
    std::vector<float> values;
};
using tensors = std::map<std::string, tensor>;

//! A convolution's weights: [outputs][inputs][height][width], and a bias [outputs] or none.
struct layer {
    int outputs, inputs, height, width;
    std::vector<float> weights, bias;

    //! What it makes of some of its inputs alone, without the bias.
    layer of_inputs(const std::vector<int>& some) const;
    //! [n]: what one of a convolution without neighbours does.
    float weight(int output, int input) const { return weights[output * inputs + input]; }
    //! Its first outputs.
    layer first_outputs(int n) const;
    //! What one over three rows does to a fold of rows (fold_job).
    layer of_fold(int fold) const;
};

//! deeprx_training.receivers.pusch.Net
struct residual_net {
    layer first;
    std::vector<std::pair<layer, layer>> blocks; // x + second(relu(first(x)))
    layer last;
};

//! Arguments of deeprx_training.receivers.pusch.PuschRx.
struct pusch_numbers {
    int pilot_channels, pilot_blocks, learned, channels, blocks, rounds, basis, filters,
        interference_channels, reliability_channels;
};

/*!
 * \brief Weights of a PuschRx (training/deeprx_training/receivers/pusch.py), which says what they
 * do.
 */
struct pusch_net {
    static constexpr int n_windows = 5; // beside those that are learned
    static constexpr int n_modes = 7;
    static constexpr int n_fits = 3; // modes that know of no Doppler
    static constexpr int most_dmrs = 4;
    static constexpr int n_symbols = 14;
    static constexpr int n_slot_numbers = 8;
    static constexpr int n_plain = n_fits * n_windows;
    static constexpr int n_pilot_features = 2 * (n_windows + 1);
    static constexpr int n_powers = 7;
    static constexpr int n_known = 3 + n_slot_numbers;
    static constexpr int n_round_features = n_powers + 2 + n_known + n_pilot_features;
    static constexpr int n_hints = 4;
    static constexpr int n_shown = 4;
    static constexpr int n_levels = 4;
    static constexpr int n_reliability_features = n_hints + n_shown + n_levels + n_known;
    static constexpr int n_judged = n_shown + 3; // weights of what is shown; factor, slope, doubt

    static constexpr int n_averaged = 4; // covariances: over 1, 3, 9 PRBs and over all
    static constexpr int averaged[]{ 1, 3, 9 };
    static constexpr int n_interference_features = 3 * n_averaged - 1;

    struct correction {
        residual_net net;
        layer into, over_frequency, over_time, back;
        residual_net interference;

        //! Of what of an innovation comes back to its own subcarrier, on a PRB's average: weights
        //! of products of what steers numbers before the filters and behind.
        layer own() const;
    };

    pusch_numbers numbers;
    std::vector<std::vector<float>> dmrs_lists; // [14] each
    std::vector<std::vector<float>> modes;      // of each list, [n_modes][14][most_dmrs]
    layer windows;                              // over PRBs of 6 pilots
    layer learned[2];                           // of real and imaginary parts, of both
    residual_net pilot_net;
    std::vector<correction> rounds;
    residual_net reliability;

    int n_bank() const { return n_windows + numbers.learned; }
};

/*!
 * \brief Takes a state_dict() apart.
 * \throws std::runtime_error one line: a tensor is missing, is of another shape than such a net's,
 * or belongs to another
 */
pusch_net make_pusch_net(const pusch_numbers& numbers, tensors weights);

} // namespace gr::deeprx
