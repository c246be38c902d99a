/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

namespace gr::deeprx {

class stage_clock;

//! Receives slots of one kind, on the thread that calls it. All memory is allocated at
//! construction.
class slot_receiver
{
public:
    virtual ~slot_receiver() = default;

    //! LLRs of a RE: the most bits of a layer, or more; those it has not are 0.
    virtual int llr_stride() const = 0;

    /*!
     * \param grid received, float32 [n_rx][n_symbols][n_subcarriers][2], at any scale
     * \param pilots as sent, float32 [n_layers][n_symbols][n_subcarriers][2]
     * \param llr float32 [n_layers][n_symbols][n_subcarriers][llr_stride()], log P(1)/P(0); of no
     * meaning where there is no data
     */
    virtual void receive(const float* grid, const float* pilots, float* llr) = 0;

    //! Its first half: the channel and the noise alone, of \p grid and \p pilots as above.
    virtual void estimate(const float* grid, const float* pilots) = 0;

    //! Of the slot that was estimated last, float32 [n_layers][n_rx][n_symbols][n_subcarriers][2].
    virtual void copy_channel(float* to) const = 0;
    //! Of that slot: power of noise and interference in a data RE of each antenna, [n_rx].
    virtual void copy_noise(float* to) const = 0;

    //! \param clock told of the stages of each slot from now on; null: nobody is
    virtual void set_clock(stage_clock* clock) = 0;
};

} // namespace gr::deeprx
