/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "raises.h"

#include <gnuradio/deeprx/tdl_fading.h>

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <ostream>

using gr::deeprx::tdl_fading;
using sample = std::complex<float>;

BOOST_AUTO_TEST_SUITE(tdl_fading_suite)

namespace {

const std::vector<std::vector<float>> filters{ { 1.0f, 0.0f, 0.0f }, { 0.0f, 0.5f, 0.5f } };

tdl_fading fading(uint64_t seed = 1, double doppler = 1e-4, bool line_of_sight = false)
{
    return { filters, { 0.8f, 0.6f }, line_of_sight, 2, doppler, seed, 0, 16 };
}

//! [n_rx][n] of what a constant signal becomes, in pieces of so many samples.
std::vector<std::vector<sample>> faded(tdl_fading channel, int n, int piece)
{
    const std::vector<sample> ones(n, 1.0f);
    std::vector<std::vector<sample>> out(channel.n_rx(), std::vector<sample>(n));
    for (int at = 0; at < n; at += piece) {
        std::vector<sample*> to;
        for (auto& antenna : out)
            to.push_back(&antenna[at]);
        channel.process(&ones[at], std::min(piece, n - at), to.data());
    }
    return out;
}

struct wrong {
    const char* words;
    std::vector<float> amplitudes;
    int n_rx;
    double doppler;
    int n_sinusoids;
};

std::ostream& operator<<(std::ostream& out, const wrong& w) { return out << w.words; }

const wrong wrongs[]{ { "amplitude", { 1.0f }, 2, 1e-4, 16 },
                      { "n_rx", { 0.8f, 0.6f }, 0, 1e-4, 16 },
                      { "doppler", { 0.8f, 0.6f }, 2, 0.5, 16 },
                      { "doppler", { 0.8f, 0.6f }, 2, -1.0, 16 },
                      { "n_sinusoids", { 0.8f, 0.6f }, 2, 1e-4, 0 } };

} // namespace

BOOST_DATA_TEST_CASE(parameters_out_of_range_are_refused, boost::unit_test::data::make(wrongs), w)
{
    check_raises<std::invalid_argument>(
        [&] { tdl_fading(filters, w.amplitudes, false, w.n_rx, w.doppler, 1, 0, w.n_sinusoids); },
        "");
}

BOOST_DATA_TEST_CASE(the_result_does_not_depend_on_how_it_is_cut,
                     boost::unit_test::data::make({ 1, 7, 100, 999 }),
                     piece)
{
    const auto whole = faded(fading(), 3000, 3000);
    BOOST_TEST(faded(fading(), 3000, piece) == whole);
}

//! Averaged over draws: E|h|^2 is the sum of the taps' powers.
BOOST_DATA_TEST_CASE(mean_power_is_that_of_the_profile,
                     boost::unit_test::data::make({ false, true }),
                     line_of_sight)
{
    tdl_fading channel = fading(3, 1e-4, line_of_sight);
    double power = 0.0;
    constexpr int draws = 4000;
    for (int draw = 0; draw < draws; draw++) {
        channel.redraw(draw);
        for (const auto& gain : channel.taps(0.0))
            power += std::norm(gain) / (2.0 * draws);
    }
    BOOST_CHECK_SMALL(power - 1.0, 0.05);
}

BOOST_AUTO_TEST_CASE(draws_differ_and_come_again)
{
    tdl_fading channel = fading();
    const auto first = channel.taps(0.0);
    channel.redraw(1);
    BOOST_TEST(channel.taps(0.0) != first);
    channel.redraw(0);
    BOOST_TEST(channel.taps(0.0) == first);
    BOOST_TEST(fading(2).taps(0.0) != first);
}

BOOST_AUTO_TEST_SUITE_END()
