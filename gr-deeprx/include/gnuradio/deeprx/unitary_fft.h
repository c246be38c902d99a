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
 * digits of its results, and with them LLRs near zero, would change from run to run. Here it takes
 * the one that it estimates to be best, always the same one.
 */
class DEEPRX_API unitary_fft
{
public:
    //! \param inverse samples of a spectrum; else the spectrum of samples
    //! \throws std::invalid_argument if the size is not even and positive
    explicit unitary_fft(int size, bool inverse = false);

    int size() const { return d_size; }

    //! From `size` values to as many; both may lie anywhere, also in one place.
    void operator()(const std::complex<float>* in, std::complex<float>* out);

private:
    struct free_buffer {
        void operator()(std::complex<float>* buffer) const;
    };
    struct destroy_plan {
        void operator()(fftwf_plan_s* plan) const;
    };

    const int d_size;
    const bool d_inverse;
    // FFTW wants them aligned as they were when it planned
    std::unique_ptr<std::complex<float>[], free_buffer> d_in, d_out;
    std::unique_ptr<fftwf_plan_s, destroy_plan> d_plan;
};

} // namespace gr::deeprx
