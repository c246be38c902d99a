/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_geometry.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <ostream>

using gr::deeprx::slot_geometry;

BOOST_AUTO_TEST_SUITE(slot_geometry_suite)

namespace {

struct size {
    int n_prb;
    const char* modulation;
    std::vector<int> dmrs;
    int fft_size;
    int n_bits;
};

std::ostream& operator<<(std::ostream& out, const size& s)
{
    return out << s.n_prb << " PRB " << s.modulation;
}

const size sizes[]{ { 6, "QPSK", { 2 }, 128, 2 * (14 * 72 - 36) },
                    { 26, "16QAM", { 2, 11 }, 512, 4 * (14 * 312 - 312) },
                    { 51, "64QAM", { 3, 10 }, 1024, 6 * (14 * 612 - 612) },
                    { 273, "256QAM", { 0 }, 4096, 8 * (14 * 3276 - 1638) } };

struct wrong {
    int n_prb;
    const char* modulation;
    std::vector<int> dmrs;
    int cell_id;
    int slot_number;
    const char* words;
};

std::ostream& operator<<(std::ostream& out, const wrong& w) { return out << w.words; }

const wrong wrongs[]{ { 5, "QPSK", { 2 }, 1, 0, "n_prb must be 6 to 273, got 5" },
                      { 274, "QPSK", { 2 }, 1, 0, "n_prb must be 6 to 273, got 274" },
                      { 26, "8PSK", { 2 }, 1, 0, "got '8PSK'" },
                      { 26, "QPSK", {}, 1, 0, "dmrs must name 1 or 2 different symbols" },
                      { 26, "QPSK", { 2, 2 }, 1, 0, "got [2, 2]" },
                      { 26, "QPSK", { 2, 7, 11 }, 1, 0, "got [2, 7, 11]" },
                      { 26, "QPSK", { 14 }, 1, 0, "got [14]" },
                      { 26, "QPSK", { 2 }, 65536, 0, "cell_id must be 0 to 65535" },
                      { 26, "QPSK", { 2 }, 1, 10, "slot_number must be -1 to 9" } };

} // namespace

BOOST_DATA_TEST_CASE(sizes_follow_from_the_allocation, boost::unit_test::data::make(sizes), s)
{
    const slot_geometry slot(s.n_prb, s.modulation, s.dmrs, 1, 0);
    BOOST_TEST(slot.fft_size() == s.fft_size);
    BOOST_TEST(slot.n_bits() == s.n_bits);
    BOOST_TEST(slot.first_bin() == s.fft_size / 2 - 6 * s.n_prb);
}

BOOST_DATA_TEST_CASE(parameters_out_of_range_are_refused, boost::unit_test::data::make(wrongs), w)
{
    check_raises<std::invalid_argument>(
        [&] { slot_geometry(w.n_prb, w.modulation, w.dmrs, w.cell_id, w.slot_number); }, w.words);
}

BOOST_AUTO_TEST_CASE(pilots_are_qpsk_on_even_subcarriers_of_dmrs_symbols)
{
    const slot_geometry slot(6, "QPSK", { 11, 2 }, 7, -1);
    const auto& pilots = slot.pilots(3);
    for (int symbol = 0; symbol < slot.n_symbols; symbol++)
        for (int k = 0; k < slot.n_subcarriers(); k++) {
            const float* p = &pilots[2 * (symbol * slot.n_subcarriers() + k)];
            const bool pilot = (symbol == 2 || symbol == 11) && k % 2 == 0;
            BOOST_REQUIRE_SMALL(p[0] * p[0] + p[1] * p[1] - (pilot ? 1.0f : 0.0f), 1e-6f);
        }
    BOOST_CHECK(pilots == slot.pilots(13)); // through the frame
    BOOST_CHECK(pilots != slot.pilots(4));
    const slot_geometry still(6, "QPSK", { 2, 11 }, 7, 3);
    BOOST_CHECK(still.pilots(0) == pilots && still.pilots(9) == pilots);
}

BOOST_AUTO_TEST_SUITE_END()
