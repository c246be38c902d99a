/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_tags.h"
#include "tags.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <limits>
#include <ostream>

using namespace gr::deeprx;
using gr::tag_t;

BOOST_AUTO_TEST_SUITE(slot_tags_suite)

namespace {

const pmt::pmt_t length_key = pmt::mp("length");
const pmt::pmt_t other_key = pmt::mp("other");

tag_t make_tag(uint64_t offset, const pmt::pmt_t& key, const pmt::pmt_t& value)
{
    tag_t tag;
    tag.offset = offset;
    tag.key = key;
    tag.value = value;
    return tag;
}

struct length {
    pmt::pmt_t value;
    const char* wrong;
};

std::ostream& operator<<(std::ostream& out, const length& l) { return out << l.value; }

const length lengths[]{
    { pmt::from_long(14), "" },  { pmt::from_long(13), "13" },     { pmt::from_long(-14), "-14" },
    { pmt::mp("many"), "many" }, { pmt::from_double(14.0), "14" },
};

struct index {
    pmt::pmt_t value;
    std::optional<uint64_t> slot;
};

std::ostream& operator<<(std::ostream& out, const index& i) { return out << i.value; }

const index indices[]{
    { pmt::from_uint64(std::numeric_limits<uint64_t>::max()),
      std::numeric_limits<uint64_t>::max() },
    { pmt::from_long(7), 7 },
    { pmt::from_long(-1), std::nullopt },
    { pmt::from_double(3.0), std::nullopt },
    { pmt::mp("seven"), std::nullopt },
    { pmt::PMT_NIL, std::nullopt },
    { pmt::make_dict(), std::nullopt },
};

} // namespace

BOOST_DATA_TEST_CASE(length_tags_say_what_they_say, boost::unit_test::data::make(lengths), l)
{
    slot_tags tags(length_key);
    std::vector<tag_t> others;
    tags.add(1, 100, { make_tag(103, length_key, l.value) }, others);
    BOOST_REQUIRE(tags.lengths().size() == 1u);
    BOOST_TEST(tags.lengths()[0].stream == 1);
    BOOST_TEST(tags.lengths()[0].symbol == 3);
    BOOST_TEST(tags.lengths()[0].wrong == l.wrong);
    BOOST_TEST(others.empty());
}

BOOST_AUTO_TEST_CASE(the_index_of_a_torn_slot_is_not_the_next_ones)
{
    slot_tags tags(length_key);
    std::vector<tag_t> others;
    tags.add(0,
             0,
             { make_tag(0, slot_index_key, pmt::from_uint64(3)),
               make_tag(9, slot_index_key, pmt::from_uint64(4)) },
             others);
    BOOST_TEST(tags.slot_index().value() == 3u);
}

BOOST_DATA_TEST_CASE(an_index_is_one_or_is_not, boost::unit_test::data::make(indices), i)
{
    slot_tags tags(length_key);
    std::vector<tag_t> others;
    tags.add(0, 0, { make_tag(0, slot_index_key, i.value) }, others);
    BOOST_CHECK(tags.slot_index() == i.slot);
    BOOST_TEST(others.size() == 1u); // passes, whatever it is
    tags.clear();
    BOOST_CHECK(!tags.slot_index());
}

BOOST_AUTO_TEST_CASE(a_tag_that_two_streams_have_is_one)
{
    slot_tags tags(length_key);
    std::vector<tag_t> others;
    const auto one = make_tag(5, other_key, pmt::from_long(1));
    const auto two = make_tag(5, other_key, pmt::from_long(2));
    tags.add(0, 0, { one, one }, others); // a stream's own stay as they are
    tags.add(1, 0, { one, two }, others);
    BOOST_REQUIRE(others.size() == 3u);
    BOOST_TEST(pmt::to_long(others[2].value) == 2);
}

BOOST_AUTO_TEST_CASE(llrs_have_length_index_and_the_others)
{
    slot_tags tags(length_key);
    std::vector<tag_t> others;
    tags.add(0, 0, { make_tag(5, other_key, pmt::from_long(1)) }, others);
    tags.to_llrs(others, 1000, 7, pmt::from_long(240), pmt::mp("block"));
    BOOST_REQUIRE(others.size() == 3u);
    for (const auto& t : others)
        BOOST_TEST(t.offset == 1000u);
    BOOST_CHECK(pmt::eq(others[1].key, slot_index_key));
    BOOST_TEST(pmt::to_uint64(others[1].value) == 7u);
    BOOST_CHECK(pmt::eq(others[2].key, length_key));
    BOOST_TEST(pmt::to_long(others[2].value) == 240);
    tags.to_llrs(others, 2000, 8, pmt::from_long(240), pmt::mp("block")); // has an index
    BOOST_TEST(others.size() == 4u);
}

BOOST_AUTO_TEST_SUITE_END()
