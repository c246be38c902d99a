/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_receiver.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <complex>
#include <ostream>
#include <random>

using namespace gr::deeprx;
using kind = classical_receiver::kind;
using sample = std::complex<float>;

BOOST_AUTO_TEST_SUITE(classical_receiver_suite)

namespace {

struct shape {
    const char* name;
    pilot_layout layout;
    int n_rx;
};

std::ostream& operator<<(std::ostream& out, const shape& s) { return out << s.name; }

const shape shapes[]{
    { "26 PRB", { 14, 312, { 2, 11 }, 1, { { 0, 4 } } }, 2 },
    { "one PRB", { 14, 12, { 2 }, 1, { { 0, 2 } } }, 1 },
    { "two PRB, four symbols", { 4, 24, { 2 }, 1, { { 0, 6 } } }, 3 },
    { "273 PRB", { 14, 3276, { 2, 5, 8, 11 }, 2, { { 0, 8 } } }, 2 },
    { "a gNB's", { 14, 612, { 2, 7, 11 }, 2, { { 0, 6 } } }, 2 },
    { "thirteen symbols, l0 3", { 13, 132, { 3, 11 }, 1, { { 1, 8 } } }, 4 },
    { "second group", { 10, 60, { 2, 9 }, 2, { { 2, 4 } } }, 2 },
    { "two users, one group", { 14, 312, { 2, 11 }, 1, { { 0, 2 }, { 1, 4 } } }, 4 },
    { "two users, one group of two", { 14, 72, { 2, 7, 11 }, 2, { { 0, 4 }, { 1, 2 } } }, 2 },
    { "two users, two groups", { 12, 156, { 2, 6, 9 }, 2, { { 0, 6 }, { 2, 8 } } }, 4 },
    { "two users, one PRB", { 14, 12, { 2, 5, 8, 11 }, 1, { { 0, 2 }, { 1, 2 } } }, 2 },
};

const kind kinds[]{ kind::ls_lmmse, kind::sure_lmmse, kind::gnb };

//! Amplitude of one axis' bits, first bit first (TS 38.211 clauses 5.1.3 to 5.1.6).
float amplitude(const std::vector<int>& bits)
{
    static const float scale[]{ 0, 2, 10, 42, 170 };
    float level = 0;
    for (size_t i = bits.size(); i-- > 0;)
        level = (1 - 2 * bits[i]) * ((1 << (bits.size() - 1 - i)) - level);
    return level / std::sqrt(scale[bits.size()]);
}

//! What users send and antennas receive, drawn at random.
struct drawn_slot {
    drawn_slot(const pilot_layout& layout, int n_rx, int seed)
        : layout(layout), n_rx(n_rx), size(layout.n_symbols * layout.n_subcarriers), random(seed),
          pilots(layout.n_layers() * size), data(size, true), sent(pilots.size()),
          channel(layout.n_layers() * n_rx * size), grid(n_rx * size)
    {
        const int n_sc = layout.n_subcarriers;
        for (const int symbol : layout.dmrs) {
            std::vector<sample> base(n_sc);
            for (sample& p : base)
                p = std::sqrt(layout.cdm_groups / 2.0f) *
                    sample(random() & 1 ? 1 : -1, random() & 1 ? 1 : -1);
            for (int k = 0; k < n_sc; k++)
                data[symbol * n_sc + k] = layout.cdm_groups == 1 && k % 2 == 1;
            for (int l = 0; l < layout.n_layers(); l++)
                for (int k = layout.first_pilot(l); k < n_sc; k += 2)
                    pilots[l * size + symbol * n_sc + k] =
                        base[k] * (layout.layers[l].port % 2 && k / 2 % 2 ? -1.0f : 1.0f);
        }
        for (int l = 0; l < layout.n_layers(); l++) {
            bits.emplace_back(size * layout.layers[l].bits);
            for (int i = 0; i < size; i++) {
                std::vector<int> axes[2];
                for (int bit = 0; bit < layout.layers[l].bits; bit++) {
                    const int value = random() & 1;
                    bits[l][i * layout.layers[l].bits + bit] = value;
                    axes[bit % 2].push_back(value);
                }
                sent[l * size + i] =
                    data[i] ? sample(amplitude(axes[0]), amplitude(axes[1])) : pilots[l * size + i];
            }
        }
    }

    sample normal()
    {
        const float re = gauss(random);
        return sample(re, gauss(random)) * std::sqrt(0.5f);
    }

    //! Of unit power: some paths, delays in units of 1 / subcarrier spacing, Doppler shifts in
    //! turns a symbol.
    std::vector<sample> fading(int n_layers, double delay, double doppler, int paths = 6)
    {
        std::uniform_real_distribution<double> uniform(-1, 1);
        std::vector<sample> h(n_layers * n_rx * size);
        for (int row = 0; row < n_layers * n_rx; row++)
            for (int path = 0; path < paths; path++) {
                const sample gain = normal() / std::sqrt(static_cast<float>(paths));
                const double late = (1 + uniform(random)) * delay;
                const double shift = uniform(random) * doppler;
                for (int i = 0; i < size; i++)
                    h[row * size + i] +=
                        gain *
                        static_cast<sample>(std::polar(1.0,
                                                       2 * M_PI *
                                                           (shift * (i / layout.n_subcarriers) -
                                                            late * (i % layout.n_subcarriers))));
            }
        return h;
    }

    void receive(const std::vector<sample>& h, double noise)
    {
        channel = h;
        for (int r = 0; r < n_rx; r++)
            for (int i = 0; i < size; i++) {
                grid[r * size + i] = static_cast<float>(std::sqrt(noise)) * normal();
                for (int l = 0; l < layout.n_layers(); l++)
                    grid[r * size + i] += h[(l * n_rx + r) * size + i] * sent[l * size + i];
            }
    }

    //! Another cell's QPSK on all REs.
    void interfere(const std::vector<sample>& h, double power)
    {
        for (int i = 0; i < size; i++) {
            const sample x = static_cast<float>(std::sqrt(power / 2)) *
                             sample(random() & 1 ? 1 : -1, random() & 1 ? 1 : -1);
            for (int r = 0; r < n_rx; r++)
                grid[r * size + i] += h[r * size + i] * x;
        }
    }

    std::vector<float> llrs(classical_receiver& receiver) const
    {
        std::vector<float> llr(layout.n_layers() * size * receiver.llr_stride(), NAN);
        receiver.receive(reinterpret_cast<const float*>(grid.data()),
                         reinterpret_cast<const float*>(pilots.data()),
                         llr.data());
        return llr;
    }

    double ber(classical_receiver& receiver) const
    {
        const auto llr = llrs(receiver);
        const int stride = receiver.llr_stride();
        int wrong = 0, all = 0;
        for (int l = 0; l < layout.n_layers(); l++)
            for (int i = 0; i < size; i++)
                for (int bit = 0; bit < stride; bit++) {
                    const float value = llr[(l * size + i) * stride + bit];
                    const int n_bits = layout.layers[l].bits;
                    if (!data[i] || bit >= n_bits) {
                        BOOST_REQUIRE_EQUAL(value, 0.0f);
                        continue;
                    }
                    BOOST_REQUIRE(std::isfinite(value));
                    wrong += (value > 0) != bits[l][i * n_bits + bit];
                    all++;
                }
        return static_cast<double>(wrong) / all;
    }

    //! Of the same users over the same noise, with the channel known and its noise white: LMMSE.
    double perfect_ber(double noise) const
    {
        int wrong = 0, all = 0;
        const int n = layout.n_layers();
        for (int i = 0; i < size; i++) {
            if (!data[i])
                continue;
            std::complex<double> g[2][2]{}, b[2]{};
            for (int r = 0; r < n_rx; r++)
                for (int l = 0; l < n; l++) {
                    const auto h = [&](int layer) {
                        return std::complex<double>(channel[(layer * n_rx + r) * size + i]);
                    };
                    b[l] += std::conj(h(l)) * std::complex<double>(grid[r * size + i]);
                    for (int m = 0; m < n; m++)
                        g[l][m] += std::conj(h(l)) * h(m);
                }
            for (int l = 0; l < n; l++) {
                std::complex<double> x = b[l] / g[l][l];
                if (n == 2) {
                    const double rest = g[1 - l][1 - l].real() + noise;
                    x = (b[l] - g[l][1 - l] * b[1 - l] / rest) /
                        (g[l][l] - g[l][1 - l] * g[1 - l][l] / rest);
                }
                const int n_bits = layout.layers[l].bits;
                for (int axis = 0; axis < 2; axis++) {
                    const double value = axis ? x.imag() : x.real();
                    std::vector<int> best, candidate(n_bits / 2);
                    double least = INFINITY;
                    for (int level = 0; level < 1 << n_bits / 2; level++) {
                        for (int bit = 0; bit < n_bits / 2; bit++)
                            candidate[bit] = level >> bit & 1;
                        const double distance = std::abs(value - amplitude(candidate));
                        if (distance < least) {
                            least = distance;
                            best = candidate;
                        }
                    }
                    for (int bit = 0; bit < n_bits / 2; bit++)
                        wrong += best[bit] != bits[l][i * n_bits + 2 * bit + axis];
                    all += n_bits / 2;
                }
            }
        }
        return static_cast<double>(wrong) / all;
    }

    //! Mean square error of the channel's estimate, over all symbols.
    double error(const classical_receiver& receiver) const
    {
        std::vector<sample> h(channel.size());
        receiver.copy_channel(reinterpret_cast<float*>(h.data()));
        double sum = 0;
        for (size_t i = 0; i < h.size(); i++)
            sum += std::norm(h[i] - channel[i]);
        return sum / h.size();
    }

    const pilot_layout layout;
    const int n_rx, size;
    std::mt19937 random;
    std::normal_distribution<float> gauss;
    std::vector<sample> pilots;
    std::vector<bool> data;
    std::vector<std::vector<int>> bits;
    std::vector<sample> sent, channel, grid;
};

const char* name(kind k)
{
    return k == kind::ls_lmmse ? "ls-lmmse" : k == kind::sure_lmmse ? "sure-lmmse" : "gnb";
}

} // namespace

BOOST_DATA_TEST_CASE(every_slot_is_received, boost::unit_test::data::make(shapes), s)
{
    for (const kind k : kinds) {
        classical_receiver receiver(s.layout, s.n_rx, k);
        for (int seed = 0; seed < 3; seed++) {
            drawn_slot slot(s.layout, s.n_rx, seed);
            // no deep fades: one path, users on different antennas' phases
            auto h = slot.fading(s.layout.n_layers(), 0, 0);
            for (int row = 0; row < s.layout.n_layers() * s.n_rx; row++)
                for (int i = 0; i < slot.size; i++)
                    h[row * slot.size + i] = std::polar(
                        1.0f, row * row * 1.3f + seed + i % s.layout.n_subcarriers * 0.002f * seed);
            slot.receive(h, 1e-5);
            BOOST_TEST(slot.ber(receiver) == 0.0, name(k) << ", seed " << seed);
            BOOST_TEST(slot.error(receiver) < 1e-4, name(k) << ", seed " << seed);
        }
    }
}

BOOST_DATA_TEST_CASE(all_processors_give_the_same_llrs, boost::unit_test::data::make(shapes), s)
{
    for (const kind k : kinds) {
        drawn_slot slot(s.layout, s.n_rx, 7);
        slot.receive(slot.fading(s.layout.n_layers(), 0.005, 0.002), 0.02);
        std::vector<float> first;
        for (const equaliser_kernel* kernel : equaliser_kernels()) {
            classical_receiver receiver(s.layout, s.n_rx, k, *kernel);
            const auto llr = slot.llrs(receiver);
            if (first.empty())
                first = llr;
            double difference = 0, power = 0;
            for (size_t i = 0; i < llr.size(); i++) {
                difference += std::pow(llr[i] - first[i], 2);
                power += std::pow(first[i], 2);
            }
            // rounding may take another of the gNB's 8-bit steps
            BOOST_TEST(std::sqrt(difference / power) < (k == kind::gnb ? 1e-3 : 1e-5),
                       kernel->instructions << ", " << name(k));
        }
    }
}

BOOST_DATA_TEST_CASE(any_scale_is_as_good, boost::unit_test::data::make(shapes), s)
{
    for (const kind k : kinds)
        for (const float scale : { 1e-6f, 1e5f }) {
            drawn_slot slot(s.layout, s.n_rx, 8);
            slot.receive(slot.fading(s.layout.n_layers(), 0.002, 0.001), 0.01);
            classical_receiver receiver(s.layout, s.n_rx, k);
            const auto once = slot.llrs(receiver);
            for (sample& y : slot.grid)
                y *= scale;
            const auto again = slot.llrs(receiver);
            double difference = 0, power = 0;
            for (size_t i = 0; i < once.size(); i++) {
                difference += std::pow(again[i] - once[i], 2);
                power += std::pow(once[i], 2);
            }
            BOOST_TEST(std::sqrt(difference / power) < 1e-3, name(k) << " times " << scale);
        }
}

//! In a flat channel: what is left of the pilots' noise after their averages in pairs.
BOOST_AUTO_TEST_CASE(estimates_are_as_good_as_theory_says)
{
    for (const int groups : { 1, 2 })
        for (const bool two_users : { false, true }) {
            pilot_layout layout{ 14, 1200, { 2 }, groups, { { 0, 2 } } };
            if (two_users)
                layout.layers.push_back({ 1, 2 });
            const double noise = 0.1;
            double error = 0, power = 0;
            classical_receiver receiver(layout, 2, kind::ls_lmmse);
            const int slots = 20;
            for (int seed = 0; seed < slots; seed++) {
                drawn_slot slot(layout, 2, seed);
                slot.receive(slot.fading(layout.n_layers(), 0, 0), noise);
                slot.llrs(receiver);
                error += slot.error(receiver) / slots;
                float found[2];
                receiver.copy_noise(found);
                power += (found[0] + found[1]) / 2 / slots;
            }
            // a pair has half the noise of a pilot, the mean of two pairs 3/8
            BOOST_TEST(error == noise / groups * (0.5 + 0.375) / 2,
                       boost::test_tools::tolerance(0.05));
            BOOST_TEST(power == noise, boost::test_tools::tolerance(0.03));
        }
}

BOOST_AUTO_TEST_CASE(smoothing_comes_close_to_a_known_channel)
{
    const double noise = std::pow(10, -1.2);
    for (const shape& s : shapes) {
        if (s.layout.n_subcarriers < 72)
            continue;
        double perfect = 0, sure = 0, ls = 0;
        classical_receiver smooth(s.layout, s.n_rx, kind::sure_lmmse);
        classical_receiver pairs(s.layout, s.n_rx, kind::ls_lmmse);
        const int slots = s.layout.n_subcarriers > 1000 ? 5 : 40;
        for (int seed = 0; seed < slots; seed++) {
            drawn_slot slot(s.layout, s.n_rx, seed);
            slot.receive(slot.fading(s.layout.n_layers(), 0.002, 0.001), noise);
            perfect += slot.perfect_ber(noise);
            sure += slot.ber(smooth);
            ls += slot.ber(pairs);
        }
        BOOST_TEST(perfect > 0.0, s.name);
        BOOST_TEST(sure < 1.35 * perfect, s.name << ": " << sure / perfect);
        BOOST_TEST(sure < ls, s.name << ": " << sure / ls);
    }
}

BOOST_AUTO_TEST_CASE(two_users_of_one_group_are_told_apart)
{
    const pilot_layout layout{ 14, 312, { 2, 11 }, 1, { { 0, 4 }, { 1, 4 } } };
    for (const kind k : { kind::ls_lmmse, kind::sure_lmmse }) {
        classical_receiver receiver(layout, 2, k);
        drawn_slot slot(layout, 2, 3);
        slot.receive(slot.fading(2, 0.003, 0), 1e-7); // their channels differ, and are not flat
        slot.llrs(receiver);
        BOOST_TEST(slot.error(receiver) < 1e-3, name(k));
    }
}

BOOST_AUTO_TEST_CASE(an_interferer_is_suppressed)
{
    for (const bool two_users : { false, true }) {
        pilot_layout layout{ 14, 312, { 2, 11 }, 1, { { 0, 2 } } };
        if (two_users)
            layout.layers.push_back({ 1, 2 });
        classical_receiver lmmse(layout, 4, kind::sure_lmmse), gnb(layout, 4, kind::gnb);
        double suppressed = 0, not_suppressed = 0;
        for (int seed = 0; seed < 40; seed++) {
            drawn_slot slot(layout, 4, seed);
            slot.receive(slot.fading(layout.n_layers(), 0.001, 0), 0.01);
            slot.interfere(slot.fading(1, 0.001, 0), 1.0);
            suppressed += slot.ber(lmmse);
            not_suppressed += slot.ber(gnb);
        }
        BOOST_TEST(suppressed < not_suppressed / 2, suppressed << " of " << not_suppressed);
    }
}

BOOST_AUTO_TEST_CASE(the_gnb_takes_out_a_frequency_offset)
{
    const pilot_layout layout{ 14, 312, { 2, 7, 11 }, 2, { { 0, 4 } } };
    classical_receiver receiver(layout, 2, kind::gnb);
    drawn_slot slot(layout, 2, 5);
    auto h = slot.fading(1, 0, 0);
    for (size_t i = 0; i < h.size(); i++)
        h[i] = std::polar(1.0f, 0.2f * (i / layout.n_subcarriers % layout.n_symbols));
    slot.receive(h, 1e-4);
    BOOST_TEST(slot.ber(receiver) == 0.0);
    BOOST_TEST(slot.error(receiver) < 1e-3);
}

BOOST_AUTO_TEST_CASE(the_gnb_gives_llrs_of_8_bits)
{
    for (const int bits : { 2, 4, 6, 8 }) {
        const pilot_layout layout{ 14, 312, { 2, 11 }, 1, { { 0, bits } } };
        classical_receiver receiver(layout, 2, kind::gnb);
        drawn_slot slot(layout, 2, 5);
        slot.receive(slot.fading(1, 0.001, 0), 0.003);
        float most = 0;
        for (const float value : slot.llrs(receiver)) {
            const float steps = value * 120 / (bits == 2 ? 24 : 20);
            BOOST_REQUIRE_SMALL(steps - std::round(steps), 1e-3f);
            most = std::max(most, std::abs(steps));
        }
        BOOST_TEST(std::lround(most) == 120);
    }
}

BOOST_AUTO_TEST_CASE(nothing_received_is_nothing_known)
{
    for (const shape& s : shapes)
        for (const kind k : kinds) {
            classical_receiver receiver(s.layout, s.n_rx, k);
            const drawn_slot slot(s.layout, s.n_rx, 1); // received: zeros
            for (const float value : slot.llrs(receiver))
                BOOST_REQUIRE_SMALL(value, 1e-6f);
        }
}

BOOST_AUTO_TEST_CASE(an_estimate_alone_is_that_of_receiving)
{
    for (const kind k : kinds) {
        const shape& s = shapes[7];
        classical_receiver receives(s.layout, s.n_rx, k), estimates(s.layout, s.n_rx, k);
        drawn_slot slot(s.layout, s.n_rx, 1);
        slot.receive(slot.fading(2, 0.002, 0.001), 0.1);
        slot.llrs(receives);
        estimates.estimate(reinterpret_cast<const float*>(slot.grid.data()),
                           reinterpret_cast<const float*>(slot.pilots.data()));
        BOOST_TEST(slot.error(estimates) == slot.error(receives), name(k));
        float one[4], other[4];
        receives.copy_noise(one);
        estimates.copy_noise(other);
        BOOST_TEST(std::equal(one, one + s.n_rx, other), name(k));
    }
}

BOOST_AUTO_TEST_CASE(what_is_no_number_gives_none)
{
    for (const kind k : kinds) {
        const shape& s = shapes[0];
        classical_receiver receiver(s.layout, s.n_rx, k);
        drawn_slot slot(s.layout, s.n_rx, 1);
        slot.receive(slot.fading(1, 0, 0), 0.1);
        slot.grid[5 * s.layout.n_subcarriers + 7] = NAN; // a data RE
        const auto llr = slot.llrs(receiver);
        BOOST_TEST(std::isnan(llr[(5 * s.layout.n_subcarriers + 7) * 4]), name(k));
        BOOST_TEST(std::isfinite(llr[(5 * s.layout.n_subcarriers + 8) * 4]), name(k));
    }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_received_is_refused)
{
    const pilot_layout one{ 14, 312, { 2, 11 }, 1, { { 0, 4 } } };
    const pilot_layout two{ 14, 312, { 2, 11 }, 1, { { 0, 4 }, { 1, 4 } } };
    check_raises<std::invalid_argument>([&] { classical_receiver(one, 5, kind::ls_lmmse); },
                                        "n_rx must be 1 to 4, got 5");
    check_raises<std::invalid_argument>(
        [&] { classical_receiver(two, 1, kind::gnb); },
        "zero forcing of two users needs 2 antennas or more, got 1");
    check_raises<std::invalid_argument>([] { classical_kind("lmmse"); },
                                        "one of ls-lmmse, sure-lmmse, gnb, got 'lmmse'");
}

BOOST_AUTO_TEST_SUITE_END()
