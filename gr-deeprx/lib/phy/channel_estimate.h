/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "equaliser_kernel.h"
#include "slot_geometry.h"
#include "stage_clock.h"

#include <array>
#include <complex>
#include <vector>

namespace gr::deeprx {

//! What an estimator needs to know of a slot.
struct pilot_layout {
    int n_symbols;
    int n_subcarriers;
    std::vector<int> dmrs; // symbols
    int cdm_groups;        // without data: pilots have this power
    struct layer {
        int port; // 0 to 3
        int bits; // per symbol
    };
    std::vector<layer> layers;

    int n_layers() const { return static_cast<int>(layers.size()); }
    int n_pilots() const { return n_subcarriers / 2; } // of a layer in a symbol
    int first_pilot(int layer) const { return layers[layer].port / 2; }
    //! Whether two layers have the same pilots' places, told apart by signs over pairs.
    bool paired() const { return layers.size() == 2 && layers[0].port / 2 == layers[1].port / 2; }
};

pilot_layout layout_of(const slot_geometry& slot);

/*!
 * \brief The channel of a slot as an estimator sees it: at one or several times, linear between and
 * beyond them, times a phase that turns from symbol to symbol; noise and interference white over
 * the slot.
 */
class channel_estimate
{
public:
    //! \param times symbols
    channel_estimate(const pilot_layout& layout, int n_rx, const std::vector<int>& times);

    int stride() const { return d_stride; }
    //! [2][stride()]: re, im.
    float* plane(int layer, int antenna, int time)
    {
        return &d_planes[((layer * d_n_rx + antenna) * d_times.size() + time) * 2 * d_stride];
    }
    const float* plane(int layer, int antenna, int time) const
    {
        return const_cast<channel_estimate*>(this)->plane(layer, antenna, time);
    }

    struct place {
        int before, after; // of times
        float weight;      // of the latter
    };
    place between(int symbol) const;
    //! What the channel of an antenna is turned by at a symbol.
    std::complex<float> turn(int antenna, int symbol) const
    {
        return std::polar(1.0f, step[antenna] * symbol);
    }

    //! Covariance of noise and interference in a data RE, Hermitian.
    std::array<std::array<std::complex<double>, most_antennas>, most_antennas> covariance{};
    std::array<float, most_antennas> step{}; // radians a symbol

private:
    const int d_n_rx;
    const int d_stride;
    const std::vector<int> d_times;
    std::vector<float> d_planes;
};

//! Estimates the channel of one slot after another.
class channel_estimator
{
public:
    channel_estimator(const pilot_layout& layout, int n_rx, const std::vector<int>& times)
        : estimate(layout, n_rx, times)
    {
    }
    virtual ~channel_estimator() = default;
    /*!
     * \param grid received, float32 [n_rx][n_symbols][n_subcarriers][2]
     * \param pilots as sent, float32 [n_layers][n_symbols][n_subcarriers][2]
     */
    virtual void update(const float* grid, const float* pilots) = 0;

    channel_estimate estimate;
    stage_clock* clock = nullptr; // null: nobody times its stages
};

} // namespace gr::deeprx
