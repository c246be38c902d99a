/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "samples.h"

#include "slot_of.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(samples_suite)

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

} // namespace

BOOST_DATA_TEST_CASE(the_largest_magnitude_is_that_of_any_place,
                     boost::unit_test::data::xrange(37),
                     place)
{
    std::vector<float> from(37, -0.5f), to(37);
    from[place] = -3.0f;
    BOOST_TEST(copy_scaled(from.data(), 37, -2.0f, to.data()) == 6.0f);
    for (int i = 0; i < 37; i++)
        BOOST_TEST(to[i] == -2.0f * from[i]);
    for (const float bad : { nan, -nan, inf, -inf }) {
        from[place] = bad;
        BOOST_TEST(!std::isfinite(copy_scaled(from.data(), 37, 1.0f, to.data())));
    }
}

BOOST_DATA_TEST_CASE(any_scale_becomes_the_same,
                     boost::unit_test::data::xrange(-120, 120, 7),
                     exponent)
{
    for (const float peak : { 3.0f, 3.1f, 4.5f, 5.999f }) {
        BOOST_TEST(to_unit_power(peak) == 1.0f);
        BOOST_TEST(std::ldexp(peak, exponent) * to_unit_power(std::ldexp(peak, exponent)) == peak);
    }
}

BOOST_AUTO_TEST_CASE(the_factor_is_finite_for_the_smallest_and_the_largest)
{
    for (const float peak : { 0.0f, 1e-45f, 1e-38f, 3.4e38f }) {
        const float factor = to_unit_power(peak);
        BOOST_TEST((std::isfinite(factor) && factor > 0.0f && std::isfinite(peak * factor)));
    }
}

//! Samples that say where they lie, behind another slot.
BOOST_DATA_TEST_CASE(a_grid_is_what_lies_on_the_subcarriers,
                     boost::unit_test::data::make({ 1, 2 }),
                     n_rx)
{
    const auto slot = slot_of(6, "16QAM", { 2, 11 }, 0);
    const int n_sc = slot.n_subcarriers(), fft = slot.fft_size();
    const auto value = [&](int rx, int symbol, int bin, int axis) {
        return 3.0f + float(((rx * 14 + symbol) * fft + bin) * 2 + axis) / float(60 * fft);
    };
    std::vector<std::vector<float>> samples(n_rx);
    std::vector<const void*> streams;
    for (int rx = 0; rx < n_rx; rx++) {
        samples[rx].assign(14 * fft * 2, nan); // the slot before does not matter
        for (int i = 0; i < 14 * fft * 2; i++)
            samples[rx].push_back(value(rx, i / 2 / fft, i / 2 % fft, i % 2));
        streams.push_back(samples[rx].data());
    }
    std::vector<float> grid(n_rx * 14 * n_sc * 2);
    BOOST_TEST(copy_grid(slot, streams, 14, grid.data()));
    size_t i = 0;
    for (int rx = 0; rx < n_rx; rx++)
        for (int symbol = 0; symbol < 14; symbol++)
            for (int k = 0; k < n_sc; k++)
                for (int axis = 0; axis < 2; axis++)
                    BOOST_REQUIRE(grid[i++] == value(rx, symbol, slot.first_bin() + k, axis));

    samples[0][(14 + 3) * fft * 2] = inf; // in the guard band
    BOOST_TEST(copy_grid(slot, streams, 14, grid.data()) == 1.0f);
    for (float& sample : samples[0])
        sample *= 0.25f;
    if (n_rx == 1)
        BOOST_TEST(copy_grid(slot, streams, 14, grid.data()) == 4.0f);
    samples[n_rx - 1][((14 + 13) * fft + slot.first_bin() + n_sc) * 2 - 1] = nan;
    BOOST_TEST(copy_grid(slot, streams, 14, grid.data()) == 0.0f);
}

BOOST_DATA_TEST_CASE(only_symbols_with_pilots_are_written,
                     boost::unit_test::data::make({ 0, 3, 11 }),
                     index)
{
    const auto slot = slot_of(6, "16QAM", { 2, 11 }, -1);
    std::vector<float> pilots(14 * slot.n_subcarriers() * 2);
    copy_pilots(slot, index, pilots.data());
    BOOST_TEST(pilots == slot.pilots(index), boost::test_tools::per_element());
    std::fill(pilots.begin(), pilots.end(), 5.0f);
    copy_pilots(slot, index, pilots.data());
    BOOST_TEST(pilots[0] == 5.0f);
}

//! LLRs that say where they lie, at the modulation's stride and a wider one.
BOOST_DATA_TEST_CASE(llrs_come_in_transmit_order, boost::unit_test::data::make({ 4, 8 }), stride)
{
    const auto slot = slot_of(6, "16QAM", { 2, 11 }, 0);
    const int n_sc = slot.n_subcarriers();
    std::vector<float> llr(14 * n_sc * stride), out(slot.n_bits()), expected;
    for (int symbol = 0; symbol < 14; symbol++)
        for (int k = 0; k < n_sc; k++)
            for (int bit = 0; bit < stride; bit++) {
                const float value = 1000.0f * symbol + 10.0f * k + bit;
                llr[(symbol * n_sc + k) * stride + bit] = value;
                if (bit < 4 && (k % 2 || (symbol != 2 && symbol != 11)))
                    expected.push_back(-value);
            }
    BOOST_TEST(copy_llrs(slot, 0, llr.data(), stride, -1.0f, out.data()));
    BOOST_CHECK(out == expected);
    llr[5 * n_sc * stride] = nan;
    BOOST_TEST(!copy_llrs(slot, 0, llr.data(), stride, 1.0f, out.data()));
    llr[5 * n_sc * stride] = 0.0f;
    llr[2 * n_sc * stride] = nan; // of a pilot
    BOOST_TEST(copy_llrs(slot, 0, llr.data(), stride, 1.0f, out.data()));
}

BOOST_AUTO_TEST_SUITE_END()
