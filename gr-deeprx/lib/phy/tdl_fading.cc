/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "numpy_random.h"

#include <gnuradio/deeprx/tdl_fading.h>
#include <volk/volk.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

// The widest vectors that the processor has, chosen when the library is loaded
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_THREAD__) // its own choice comes before its runtime does
#define WIDEST_VECTORS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST_VECTORS
#endif

namespace gr::deeprx {

namespace {

constexpr double los_doppler = 0.7; // of the maximum shift, TR 38.901 clause 7.7.2
constexpr int max_step = 512;
constexpr int knots_per_restart = 64; // rounding errors of rotating phasors end there

constexpr int lanes = 16; // samples that are faded together
using vector = float __attribute__((vector_size(lanes * sizeof(float))));

std::complex<float> phasor(double cycles)
{
    return std::polar(1.0f, static_cast<float>(2 * M_PI * (cycles - std::floor(cycles))));
}

/*
 * out[i] = sum over l of (response[l] + (since + i) slope[l]) signal[i - l], for 0 <= i < n rounded
 * up to lanes. The sums are the same wherever a sample lies in a vector.
 */
WIDEST_VECTORS void fade(const float* signal_re,
                         const float* signal_im,
                         const float* response_re,
                         const float* response_im,
                         const float* slope_re,
                         const float* slope_im,
                         int length,
                         int since,
                         int n,
                         float* out_re,
                         float* out_im)
{
    vector ramp;
    for (int i = 0; i < lanes; i++)
        ramp[i] = static_cast<float>(since + i);
    for (int i = 0; i < n; i += lanes, ramp += static_cast<float>(lanes)) {
        vector re{}, im{}, steep_re{}, steep_im{};
        for (int l = 0; l < length; l++) {
            vector x, y;
            std::memcpy(&x, signal_re + i - l, sizeof(x));
            std::memcpy(&y, signal_im + i - l, sizeof(y));
            re = re + response_re[l] * x - response_im[l] * y;
            im = im + response_re[l] * y + response_im[l] * x;
            steep_re = steep_re + slope_re[l] * x - slope_im[l] * y;
            steep_im = steep_im + slope_re[l] * y + slope_im[l] * x;
        }
        re += ramp * steep_re;
        im += ramp * steep_im;
        std::memcpy(out_re + i, &re, sizeof(re));
        std::memcpy(out_im + i, &im, sizeof(im));
    }
}

//! Turns n_sinusoids rows of n phasors and adds the rows up.
WIDEST_VECTORS void rotate_and_sum(float* __restrict re,
                                   float* __restrict im,
                                   const float* __restrict rotation_re,
                                   const float* __restrict rotation_im,
                                   int n_sinusoids,
                                   int n,
                                   float* __restrict sum_re,
                                   float* __restrict sum_im)
{
    for (int s = 0, i = 0; s < n_sinusoids; s++) {
        for (int g = 0; g < n; g++, i++) {
            const float x = re[i], y = im[i];
            re[i] = x * rotation_re[i] - y * rotation_im[i];
            im[i] = x * rotation_im[i] + y * rotation_re[i];
            sum_re[g] += re[i];
            sum_im[g] += im[i];
        }
    }
}

//! out[l] = sum over tap of gains[tap] filters[tap][l].
WIDEST_VECTORS void
weigh(const float* gains, const float* filters, int n_taps, int length, float* out)
{
    std::fill_n(out, length, 0.0f);
    for (int tap = 0; tap < n_taps; tap++, filters += length)
        for (int l = 0; l < length; l++)
            out[l] += gains[tap] * filters[l];
}

} // namespace

void tdl_fading::planar::resize(size_t n)
{
    re.resize(n);
    im.resize(n);
}

tdl_fading::tdl_fading(const std::vector<std::vector<float>>& filters,
                       const std::vector<float>& amplitudes,
                       bool line_of_sight,
                       int n_rx,
                       double doppler,
                       uint64_t seed,
                       uint64_t link,
                       int n_sinusoids)
    : d_n_rx(n_rx), d_n_taps(static_cast<int>(filters.size())), d_n_sinusoids(n_sinusoids),
      d_length(filters.empty() ? 0 : static_cast<int>(filters[0].size())),
      d_line_of_sight(line_of_sight), d_doppler(doppler), d_seed(seed), d_link(link),
      d_amplitudes(amplitudes)
{
    if (d_length == 0 || n_rx < 1 || n_sinusoids < 1 || !(doppler >= 0 && doppler <= 1.0 / 64))
        throw std::invalid_argument("tdl_fading: filters, n_rx and n_sinusoids must not be empty "
                                    "or 0, doppler must be 0 to 1/64 cycles per sample, got " +
                                    std::to_string(doppler));
    if (amplitudes.size() != filters.size())
        throw std::invalid_argument("tdl_fading: " + std::to_string(filters.size()) +
                                    " filters need as many amplitudes, got " +
                                    std::to_string(amplitudes.size()));
    for (const auto& filter : filters) {
        if (filter.size() != filters[0].size())
            throw std::invalid_argument("tdl_fading: filters must be of one length");
        d_filters.insert(d_filters.end(), filter.begin(), filter.end());
    }
    // The error of linear interpolation, (2 pi doppler step)^2 / 8, stays below -80 dB
    const double step = std::sqrt(8e-4) / (2 * M_PI * doppler);
    d_step = static_cast<int>(std::clamp(step, 1.0, static_cast<double>(max_step)));

    const size_t n_gains = n_rx * filters.size();
    d_shifts.resize(n_sinusoids * n_gains);
    d_phases.resize(n_sinusoids * n_gains);
    d_phasors.resize(n_sinusoids * n_gains);
    d_rotations.resize(n_sinusoids * n_gains);
    d_gains.resize(n_gains);
    for (planar* response : { &d_response, &d_slope, &d_next })
        response->resize(n_rx * d_length);
    d_signal.resize(d_length - 1);
    redraw(0);
}

void tdl_fading::redraw(uint64_t draw)
{
    numpy_random random({ d_seed, d_link, draw });
    const int n_gains = d_n_rx * d_n_taps;
    std::vector<double> starts(n_gains);
    for (double& start : starts)
        start = random();
    for (int g = 0; g < n_gains; g++) {
        for (int s = 0; s < d_n_sinusoids; s++) {
            const int i = s * n_gains + g;
            d_shifts[i] = d_doppler * std::cos(2 * M_PI * (s + starts[g]) / d_n_sinusoids);
            d_phases[i] = random();
            const auto rotation = phasor(d_shifts[i] * d_step);
            d_rotations.re[i] = rotation.real();
            d_rotations.im[i] = rotation.imag();
        }
    }
    d_knots = 0;
    next_knot();
    next_knot();
}

std::vector<std::complex<float>> tdl_fading::taps(double time) const
{
    const int n_gains = d_n_rx * d_n_taps;
    std::vector<std::complex<float>> gains(n_gains);
    for (size_t i = 0; i < d_shifts.size(); i++)
        gains[i % n_gains] += phasor(d_shifts[i] * time + d_phases[i]);
    for (int g = 0; g < n_gains; g++)
        gains[g] *= d_amplitudes[g % d_n_taps] / std::sqrt(static_cast<float>(d_n_sinusoids));
    if (d_line_of_sight)
        for (int g = 0; g < n_gains; g += d_n_taps)
            gains[g] = line_of_sight(time, g);
    return gains;
}

void tdl_fading::next_knot()
{
    const int n_gains = d_n_rx * d_n_taps;
    const double time = static_cast<double>(d_knots) * d_step;
    if (d_knots % knots_per_restart == 0) {
        for (size_t i = 0; i < d_shifts.size(); i++) {
            const auto before = phasor(d_shifts[i] * (time - d_step) + d_phases[i]);
            d_phasors.re[i] = before.real();
            d_phasors.im[i] = before.imag();
        }
    }
    d_knots++;
    d_since_knot = 0;

    std::fill(d_gains.re.begin(), d_gains.re.end(), 0.0f);
    std::fill(d_gains.im.begin(), d_gains.im.end(), 0.0f);
    rotate_and_sum(d_phasors.re.data(),
                   d_phasors.im.data(),
                   d_rotations.re.data(),
                   d_rotations.im.data(),
                   d_n_sinusoids,
                   n_gains,
                   d_gains.re.data(),
                   d_gains.im.data());
    for (int g = 0; g < n_gains; g++) {
        const float scale =
            d_amplitudes[g % d_n_taps] / std::sqrt(static_cast<float>(d_n_sinusoids));
        d_gains.re[g] *= scale;
        d_gains.im[g] *= scale;
    }
    if (d_line_of_sight) {
        for (int g = 0; g < n_gains; g += d_n_taps) {
            const auto gain = line_of_sight(time, g);
            d_gains.re[g] = gain.real();
            d_gains.im[g] = gain.imag();
        }
    }

    std::swap(d_response, d_next);
    for (int antenna = 0; antenna < d_n_rx; antenna++) {
        const int gain = antenna * d_n_taps;
        const int first = antenna * d_length;
        weigh(&d_gains.re[gain], d_filters.data(), d_n_taps, d_length, &d_next.re[first]);
        weigh(&d_gains.im[gain], d_filters.data(), d_n_taps, d_length, &d_next.im[first]);
    }
    for (size_t i = 0; i < d_next.re.size(); i++) {
        d_slope.re[i] = (d_next.re[i] - d_response.re[i]) / d_step;
        d_slope.im[i] = (d_next.im[i] - d_response.im[i]) / d_step;
    }
}

std::complex<float> tdl_fading::line_of_sight(double time, int gain) const
{
    return d_amplitudes[0] * phasor(los_doppler * d_doppler * time + d_phases[gain]);
}

void tdl_fading::process(const std::complex<float>* in, int n, std::complex<float>* const* out)
{
    const int history = d_length - 1;
    d_signal.resize(history + n + lanes); // the last vector may reach beyond the signal
    d_faded.resize(d_n_rx * (n + lanes));
    volk_32fc_deinterleave_32f_x2(&d_signal.re[history], &d_signal.im[history], in, n);
    for (int done = 0; done < n;) {
        if (d_since_knot == d_step)
            next_knot();
        const int part = std::min(n - done, d_step - d_since_knot);
        for (int antenna = 0; antenna < d_n_rx; antenna++)
            fade(&d_signal.re[history + done],
                 &d_signal.im[history + done],
                 &d_response.re[antenna * d_length],
                 &d_response.im[antenna * d_length],
                 &d_slope.re[antenna * d_length],
                 &d_slope.im[antenna * d_length],
                 d_length,
                 d_since_knot,
                 part,
                 &d_faded.re[antenna * (n + lanes) + done],
                 &d_faded.im[antenna * (n + lanes) + done]);
        done += part;
        d_since_knot += part;
    }
    for (int antenna = 0; antenna < d_n_rx; antenna++)
        volk_32f_x2_interleave_32fc(out[antenna],
                                    &d_faded.re[antenna * (n + lanes)],
                                    &d_faded.im[antenna * (n + lanes)],
                                    n);
    std::copy_n(d_signal.re.begin() + n, history, d_signal.re.begin());
    std::copy_n(d_signal.im.begin() + n, history, d_signal.im.begin());
}

} // namespace gr::deeprx
