/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>

#include <complex>
#include <memory>

struct fftwf_plan_s;

namespace gr::deeprx {

/*!
 * \brief Unitary FFT of OFDM symbols, DC in the middle of the spectrum. A plain class.
 *
 * Not fft_vxx: there FFTW times its algorithms and takes now one, now another, so that the last
 * digits of a spectrum, and with them LLRs near zero, would change from run to run. Here it takes
 * the one that it estimates to be best, always the same one.
 */
class DEEPRX_API unitary_fft
{
public:
    //! \throws std::invalid_argument if the size is not even and positive
    explicit unitary_fft(int size);

    int size() const { return d_size; }

    //! Spectrum of `size` samples, as many points; both may lie anywhere, also in one place.
    void operator()(const std::complex<float>* samples, std::complex<float>* spectrum);

private:
    struct free_buffer {
        void operator()(std::complex<float>* buffer) const;
    };
    struct destroy_plan {
        void operator()(fftwf_plan_s* plan) const;
    };

    const int d_size;
    // FFTW wants them aligned as they were when it planned
    std::unique_ptr<std::complex<float>[], free_buffer> d_in, d_out;
    std::unique_ptr<fftwf_plan_s, destroy_plan> d_plan;
};

} // namespace gr::deeprx
