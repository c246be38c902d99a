/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "raises.h"

#include <fftw3.h>
#include <gnuradio/deeprx/unitary_fft.h>

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

using gr::deeprx::unitary_fft;
using sample = std::complex<float>;

BOOST_AUTO_TEST_SUITE(unitary_fft_suite)

namespace {

std::vector<sample> noise(int n)
{
    std::minstd_rand bits(1);
    std::normal_distribution<float> normal;
    std::vector<sample> samples(n);
    for (sample& s : samples)
        s = { normal(bits), normal(bits) };
    return samples;
}

//! A line for each plan that was timed, in any order.
std::multiset<std::string> wisdom()
{
    const std::unique_ptr<char, decltype(&std::free)> text(fftwf_export_wisdom_to_string(),
                                                           &std::free);
    std::istringstream in(text.get());
    std::multiset<std::string> lines;
    for (std::string line; std::getline(in, line);)
        lines.insert(line);
    return lines;
}

} // namespace

BOOST_DATA_TEST_CASE(spectra_are_centred_and_unitary,
                     boost::unit_test::data::make({ 2, 12, 64, 512 }),
                     size)
{
    const auto samples = noise(size);
    std::vector<sample> spectrum(size);
    unitary_fft fft(size);
    fft(samples.data(), spectrum.data());
    for (int k = 0; k < size; k++) {
        std::complex<double> sum;
        for (int n = 0; n < size; n++)
            sum += std::complex<double>(samples[n]) *
                   std::polar(1.0, -2.0 * M_PI * (k - size / 2) * n / size);
        BOOST_REQUIRE_SMALL(
            std::abs(sum / std::sqrt(double(size)) - std::complex<double>(spectrum[k])), 1e-5);
    }
    unitary_fft inverse(size, true);
    inverse(spectrum.data(), spectrum.data());
    for (int n = 0; n < size; n++)
        BOOST_REQUIRE_SMALL(std::abs(samples[n] - spectrum[n]), 1e-5f);
}

BOOST_DATA_TEST_CASE(odd_sizes_are_refused, boost::unit_test::data::make({ -2, 0, 7 }), size)
{
    check_raises<std::invalid_argument>([&] { unitary_fft fft(size); }, "even and positive");
}

//! Of others in the process, who may have timed plans for minutes.
BOOST_AUTO_TEST_CASE(wisdom_stays)
{
    auto in = noise(96), out = noise(96);
    const auto plan = fftwf_plan_dft_1d(96,
                                        reinterpret_cast<fftwf_complex*>(in.data()),
                                        reinterpret_cast<fftwf_complex*>(out.data()),
                                        FFTW_FORWARD,
                                        FFTW_MEASURE);
    const auto before = wisdom();
    unitary_fft fft(96);
    BOOST_CHECK(wisdom() == before);
    BOOST_TEST(before.size() > 2u); // there was some
    fftwf_destroy_plan(plan);
}

BOOST_DATA_TEST_CASE(other_plans_do_not_change_a_digit,
                     boost::unit_test::data::make({ false, true }),
                     inverse)
{
    const auto samples = noise(360);
    std::vector<sample> before(360), after(360), scratch = samples;
    unitary_fft first(360, inverse);
    first(samples.data(), before.data());
    auto* data = reinterpret_cast<fftwf_complex*>(scratch.data());
    const auto plan =
        fftwf_plan_dft_1d(360, data, data, inverse ? FFTW_BACKWARD : FFTW_FORWARD, FFTW_MEASURE);
    unitary_fft second(360, inverse);
    second(samples.data(), after.data());
    BOOST_TEST(before == after);
    fftwf_destroy_plan(plan);
}

BOOST_AUTO_TEST_SUITE_END()
