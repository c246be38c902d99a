/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>

#include <complex>
#include <cstdint>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief One transmitter's fading channels to several uncorrelated antennas: the tapped delay line
 * of TR 38.901 clause 7.7.2, in the time domain. A plain class, no flowgraph.
 *
 * Each Rayleigh tap is a sum of sinusoids at angles spread evenly around the circle from a random
 * start, with random phases: its autocorrelation is J0(2 pi doppler t) and it is stationary from
 * the first sample. A line of sight has 0.7 of the maximum Doppler shift. The impulse response is
 * computed at knots and interpolated linearly: its error stays below -80 dB.
 *
 * Angles and phases are those that NumPy's default_rng((seed, link, draw)) gives: first
 * random((n_rx, n_taps)), the share of an angle's spacing that it starts at, then
 * random((n_rx, n_taps, n_sinusoids)), phases in cycles.
 */
class DEEPRX_API tdl_fading
{
public:
    /*!
     * \param filters FIR filter of each tap that delays as the tap does, [n_taps][length]
     * \param amplitudes of each tap, sqrt of its mean power
     * \param line_of_sight the first tap is one
     * \param n_rx antennas
     * \param doppler maximum shift in cycles per sample, at most 1/64
     * \param seed,link draws differ for each
     * \param n_sinusoids of each tap
     * \throws std::invalid_argument a parameter is out of range, or filters differ in length
     */
    tdl_fading(const std::vector<std::vector<float>>& filters,
               const std::vector<float>& amplitudes,
               bool line_of_sight,
               int n_rx,
               double doppler,
               uint64_t seed,
               uint64_t link,
               int n_sinusoids);

    int n_rx() const { return d_n_rx; }
    int n_taps() const { return d_n_taps; }

    //! Taps of the sample-spaced impulse response.
    int length() const { return d_length; }

    //! Takes new, independent fading; the signal's last samples still ring through.
    void redraw(uint64_t draw);

    //! Gains of the profile's taps at a time in samples since the draw, [n_rx][n_taps].
    std::vector<std::complex<float>> taps(double time) const;

    //! Fades the next n samples to n_rx outputs; the result does not depend on how they are cut.
    void process(const std::complex<float>* in, int n, std::complex<float>* const* out);

private:
    //! Real and imaginary parts apart, as vector units like them.
    struct planar {
        std::vector<float> re, im;
        void resize(size_t n);
    };

    void next_knot();
    std::complex<float> line_of_sight(double time, int gain) const;

    const int d_n_rx;
    const int d_n_taps;
    const int d_n_sinusoids;
    const int d_length;
    const bool d_line_of_sight;
    const double d_doppler; // cycles per sample
    const uint64_t d_seed;
    const uint64_t d_link;
    const std::vector<float> d_amplitudes;
    std::vector<float> d_filters; // [n_taps][length]
    int d_step;                   // samples from knot to knot

    // Of each sinusoid, [n_sinusoids][n_rx][n_taps]
    std::vector<double> d_shifts; // cycles per sample
    std::vector<double> d_phases; // cycles
    planar d_phasors;             // at the last knot
    planar d_rotations;           // from knot to knot

    planar d_gains;    // at the last knot, [n_rx][n_taps]
    planar d_response; // at the knot before the present sample, [n_rx][length]
    planar d_slope;    // from there to the last knot, per sample
    planar d_next;     // at the last knot
    uint64_t d_knots;  // since the draw
    int d_since_knot;  // samples of this segment that are done

    planar d_signal; // length - 1 samples of before, then those of now
    planar d_faded;
};

} // namespace gr::deeprx
