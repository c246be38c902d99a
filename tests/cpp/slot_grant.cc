/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_grant.h"
#include "pmt_values.h"
#include "raises.h"
#include "tags.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(slot_grant_suite)

namespace {

slot_grant read(const pmt::pmt_t& dictionary, slot_grant grant = { 7 })
{
    grant.read([&](const auto& key) { return entry(dictionary, key); });
    return grant;
}

struct wrong {
    const char* key;
    pmt::pmt_t value;
    const char* words;
};

std::ostream& operator<<(std::ostream& out, const wrong& w) { return out << w.words; }

const wrong wrongs[]{
    { "rnti", pmt::from_long(65536), "rnti must be 0 to 65535, got 65536" },
    { "rnti", pmt::mp("all"), "rnti must be 0 to 65535, got all" },
    { "process", pmt::from_long(16), "process must be 0 to 15, got 16" },
    { "rv", pmt::from_long(-1), "rv must be 0 to 3, got -1" },
    { "rv", pmt::from_double(2.0), "rv must be 0 to 3, got 2" },
    { "rv", pmt::make_dict(), "" }, // empty: as if it were not there
    { "new_data", pmt::from_long(1), "new_data must be true or false, got 1" },
    { "new_data", pmt::make_vector(3, pmt::PMT_T), "got a vector" },
};

} // namespace

BOOST_AUTO_TEST_CASE(what_is_not_given_stays)
{
    const auto grant = read(pmt::mp("no dictionary"), { 7, 3, 2, false });
    BOOST_TEST(grant.rnti == 7);
    BOOST_TEST(grant.process == 3);
    BOOST_TEST(grant.rv == 2);
    BOOST_TEST(!grant.new_data);
}

BOOST_AUTO_TEST_CASE(what_is_written_is_read_again)
{
    const auto dictionary = slot_grant{ 65535, 15, 3, false }.to_dictionary(1ull << 63);
    const auto grant = read(dictionary);
    BOOST_TEST(grant.rnti == 65535);
    BOOST_TEST(grant.process == 15);
    BOOST_TEST(grant.rv == 3);
    BOOST_TEST(!grant.new_data);
    BOOST_TEST(*to_unsigned(entry(dictionary, slot_index_key)) == 1ull << 63);
}

BOOST_DATA_TEST_CASE(values_out_of_range_are_refused, boost::unit_test::data::make(wrongs), w)
{
    const auto dictionary = pmt::dict_add(pmt::make_dict(), pmt::mp(w.key), w.value);
    if (*w.words)
        check_raises<std::invalid_argument>([&] { read(dictionary); }, w.words);
    else
        BOOST_TEST(read(dictionary).rv == 0);
}

BOOST_AUTO_TEST_CASE(a_refused_grant_changes_nothing)
{
    auto dictionary = pmt::dict_add(pmt::make_dict(), pmt::mp("process"), pmt::from_long(5));
    dictionary = pmt::dict_add(dictionary, pmt::mp("rv"), pmt::from_long(4));
    slot_grant grant{ 7 };
    BOOST_CHECK_THROW(grant.read([&](const auto& key) { return entry(dictionary, key); }),
                      std::invalid_argument);
    BOOST_TEST(grant.process == 0);
}

BOOST_AUTO_TEST_SUITE_END()
