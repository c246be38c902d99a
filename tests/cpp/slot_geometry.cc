/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_geometry.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <functional>
#include <ostream>

using gr::deeprx::dmrs_symbols;
using gr::deeprx::slot_config;
using gr::deeprx::slot_geometry;
using gr::deeprx::slot_user;

BOOST_AUTO_TEST_SUITE(slot_geometry_suite)

namespace {

slot_config config_of(const std::function<void(slot_config&)>& change)
{
    slot_config config;
    change(config);
    return config;
}

slot_user user_of(const char* modulation, int port)
{
    slot_user user;
    user.modulation = modulation;
    user.port = port;
    return user;
}

struct size {
    slot_config config;
    int fft_size;
    int first_bin;
    std::vector<int> n_bits; // by layer
};

std::ostream& operator<<(std::ostream& out, const size& s)
{
    return out << s.config.n_prb << " PRB, " << s.config.scs_khz << " kHz";
}

const size sizes[]{
    { {}, 512, 100, { 4 * (14 * 312 - 312) } },
    { config_of([](slot_config& c) {
          c.n_prb = 1;
          c.users = { user_of("QPSK", 0) };
          c.n_symbols = 4;
          c.dmrs = { 3 };
      }),
      128,
      58,
      { 2 * (4 * 12 - 6) } },
    { config_of([](slot_config& c) {
          c.n_prb = 20;
          c.first_prb = 5;
          c.carrier_prb = 51;
          c.scs_khz = 30;
          c.fft_size = 768;
          c.dmrs = { 2, 7, 11 };
          c.cdm_groups = 2;
          c.users = { user_of("64QAM", 0), user_of("QPSK", 2) };
      }),
      768,
      768 / 2 - 6 * 51 + 12 * 5,
      { 6 * 11 * 240, 2 * 11 * 240 } },
    { config_of([](slot_config& c) {
          c.n_prb = 273;
          c.dmrs = { 2, 5, 8, 11 };
          c.users = { user_of("256QAM", 0), user_of("256QAM", 1) };
      }),
      4096,
      2048 - 1638,
      { 8 * (14 * 3276 - 4 * 1638), 8 * (14 * 3276 - 4 * 1638) } },
};

struct wrong {
    std::function<void(slot_config&)> change;
    const char* words;
};

std::ostream& operator<<(std::ostream& out, const wrong& w) { return out << w.words; }

const wrong wrongs[]{
    { [](auto& c) { c.n_prb = 0; }, "n_prb must be 1 to 273, got 0" },
    { [](auto& c) { c.n_prb = 274; }, "n_prb must be 1 to 273, got 274" },
    { [](auto& c) { c.first_prb = -1; }, "first_prb must be 0 to 274, got -1" },
    { [](auto& c) { c.carrier_prb = 20; }, "inside its carrier of 20 PRB, got PRB 0 to 25" },
    { [](auto& c) { c.n_symbols = 3; }, "n_symbols must be 4 to 14, got 3" },
    { [](auto& c) { c.users[0].modulation = "8PSK"; }, "got '8PSK'" },
    { [](auto& c) { c.dmrs = {}; }, "dmrs of 14 symbols must be one of [2], [2, 11], [2, 7, 11]" },
    { [](auto& c) {
         c.dmrs = { 2, 2 };
     },
      "got [2, 2]" },
    { [](auto& c) {
         c.dmrs = { 3, 5, 8, 11 };
     },
      "got [3, 5, 8, 11]" },
    { [](auto& c) { c.n_symbols = 10; }, "dmrs of 10 symbols must be one of" },
    { [](auto& c) { c.cdm_groups = 3; }, "cdm_groups must be 1 to 2, got 3" },
    { [](auto& c) { c.dmrs_n_id = 65536; }, "dmrs_n_id must be 0 to 65535" },
    { [](auto& c) { c.n_scid = 2; }, "n_scid must be 0 to 1" },
    { [](auto& c) { c.users.clear(); }, "must be one of [0], [1], [0, 1], got []" },
    { [](auto& c) { c.users[0].port = 2; }, "must be one of [0], [1], [0, 1], got [2]" },
    { [](auto& c) { c.users[0].rnti = 65536; }, "rnti must be 0 to 65535, got 65536" },
    { [](auto& c) { c.users[0].n_id = 1024; }, "n_id must be 0 to 1023, got 1024" },
    { [](auto& c) { c.users[0].code_rate = 1.0; }, "code_rate must be 0 (none) or more" },
    { [](auto& c) { c.limited_buffer = -1; }, "limited_buffer must be 0 to 2097152, got -1" },
    { [](auto& c) {
         c.limited_buffer = 1;
         c.users[0].code_rate = 0.5;
     },
      "limited_buffer must be 0 (not limited) or hold the user's block of 8064 bits, got 1" },
    { [](auto& c) {
         c.limited_buffer = 99;
         c.users[0].code_rate = 0.5;
         c.users[0].tbs = 104;
     },
      "hold the user's block of 104 bits, got 99" },
    { [](auto& c) { c.scs_khz = 120; }, "scs_khz must be one of 15, 30, 60, got 120" },
    { [](auto& c) { c.fft_size = 256; }, "holds 312 subcarriers, up to 8192, got 256" },
    { [](auto& c) { c.slot_number = 10; }, "slot_number must be -1 to 9, got 10" },
};

} // namespace

BOOST_DATA_TEST_CASE(sizes_follow_from_the_allocation, boost::unit_test::data::make(sizes), s)
{
    const slot_geometry slot(s.config);
    BOOST_TEST(slot.fft_size() == s.fft_size);
    BOOST_TEST(slot.first_bin() == s.first_bin);
    int data = 0;
    for (const uint8_t here : slot.data_mask())
        data += here;
    BOOST_TEST(slot.n_data_re() == data);
    for (int layer = 0; layer < slot.n_layers(); layer++)
        BOOST_TEST(slot.n_bits(layer) == s.n_bits[layer]);
}

// The DMRS table leaves some in the shortest one: no data RE needs no line of its own.
BOOST_AUTO_TEST_CASE(every_allocation_has_data_res)
{
    int least = 12 * slot_geometry::n_symbols;
    for (int n_symbols = 4; n_symbols <= slot_geometry::n_symbols; n_symbols++)
        for (const int l0 : { 2, 3 })
            for (int position = 0; position < 4; position++)
                for (const int groups : { 1, 2 }) {
                    const auto dmrs = dmrs_symbols(n_symbols, position, l0);
                    if (dmrs.empty())
                        continue;
                    const slot_geometry slot(config_of([&](slot_config& c) {
                        c.n_prb = 1;
                        c.n_symbols = n_symbols;
                        c.dmrs = dmrs;
                        c.cdm_groups = groups;
                    }));
                    least = std::min(least, slot.n_data_re());
                }
    BOOST_TEST(least == 36);
}

BOOST_DATA_TEST_CASE(parameters_out_of_range_are_refused, boost::unit_test::data::make(wrongs), w)
{
    check_raises<std::invalid_argument>([&] { slot_geometry{ config_of(w.change) }; }, w.words);
}

BOOST_AUTO_TEST_CASE(pilots_are_qpsk_on_even_subcarriers_of_dmrs_symbols)
{
    const auto slot_of = [](int slot_number) {
        return slot_geometry(config_of([&](slot_config& c) {
            c.n_prb = 6;
            c.dmrs = { 11, 2 };
            c.dmrs_n_id = 7;
            c.slot_number = slot_number;
        }));
    };
    const slot_geometry slot = slot_of(-1);
    const auto& pilots = slot.pilots(3);
    for (int symbol = 0; symbol < slot.n_symbols; symbol++)
        for (int k = 0; k < slot.n_subcarriers(); k++) {
            const float* p = &pilots[2 * (symbol * slot.n_subcarriers() + k)];
            const bool pilot = (symbol == 2 || symbol == 11) && k % 2 == 0;
            BOOST_REQUIRE_SMALL(p[0] * p[0] + p[1] * p[1] - (pilot ? 1.0f : 0.0f), 1e-6f);
        }
    BOOST_CHECK(pilots == slot.pilots(13)); // through the frame
    BOOST_CHECK(pilots != slot.pilots(4));
    const slot_geometry still = slot_of(3);
    BOOST_CHECK(still.pilots(0) == pilots && still.pilots(9) == pilots);
}

BOOST_AUTO_TEST_SUITE_END()
