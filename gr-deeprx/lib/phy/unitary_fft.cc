/* SPDX-License-Identifier: GPL-3.0-or-later */

#include <fftw3.h>
#include <gnuradio/deeprx/unitary_fft.h>
#include <gnuradio/fft/fft.h>
#include <volk/volk.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

namespace {

std::complex<float>* make_buffer(int size)
{
    if (size < 2 || size % 2 != 0)
        throw std::invalid_argument("unitary_fft: size must be even and positive, got " +
                                    std::to_string(size));
    return static_cast<std::complex<float>*>(fftwf_malloc(size * sizeof(std::complex<float>)));
}

fftwf_complex* fftw(std::complex<float>* values)
{
    return reinterpret_cast<fftwf_complex*>(values);
}

} // namespace

void unitary_fft::free_buffer::operator()(std::complex<float>* buffer) const { fftwf_free(buffer); }

void unitary_fft::destroy_plan::operator()(fftwf_plan_s* plan) const
{
    const std::lock_guard<std::mutex> lock(gr::fft::planner::mutex());
    fftwf_destroy_plan(plan);
}

unitary_fft::unitary_fft(int size, bool inverse)
    : d_size(size), d_inverse(inverse), d_in(make_buffer(size)), d_out(make_buffer(size))
{
    const std::lock_guard<std::mutex> lock(gr::fft::planner::mutex());
    // What other plans were timed at would decide this one, too: wisdom is put aside meanwhile.
    const std::unique_ptr<char, decltype(&std::free)> wisdom(fftwf_export_wisdom_to_string(),
                                                             &std::free);
    fftwf_forget_wisdom();
    d_plan.reset(fftwf_plan_dft_1d(size,
                                   fftw(d_in.get()),
                                   fftw(d_out.get()),
                                   inverse ? FFTW_BACKWARD : FFTW_FORWARD,
                                   FFTW_ESTIMATE));
    fftwf_forget_wisdom(); // this plan's, which is no measurement
    if (wisdom)
        fftwf_import_wisdom_from_string(wisdom.get());
}

void unitary_fft::operator()(const std::complex<float>* in, std::complex<float>* out)
{
    // A spectrum has DC in the middle, FFTW has it first.
    const int half = d_size / 2;
    std::copy_n(in, half, d_in.get() + (d_inverse ? half : 0));
    std::copy_n(in + half, half, d_in.get() + (d_inverse ? 0 : half));
    fftwf_execute(d_plan.get());
    const float scale = 1.0f / std::sqrt(static_cast<float>(d_size));
    const auto* result = reinterpret_cast<const float*>(d_out.get());
    auto* values = reinterpret_cast<float*>(out);
    volk_32f_s32f_multiply_32f(values, result + (d_inverse ? 0 : d_size), scale, d_size);
    volk_32f_s32f_multiply_32f(values + d_size, result + (d_inverse ? d_size : 0), scale, d_size);
}

} // namespace gr::deeprx
