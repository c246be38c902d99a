/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "packet_finder.h"

#include <boost/test/unit_test.hpp>

using namespace gr::deeprx;
using gr::tag_t;

BOOST_AUTO_TEST_SUITE(packet_finder_suite)

namespace {

const pmt::pmt_t length_key = pmt::mp("length");

tag_t tag(uint64_t offset, const pmt::pmt_t& key, const pmt::pmt_t& value)
{
    tag_t tag;
    tag.offset = offset;
    tag.key = key;
    tag.value = value;
    return tag;
}

//! Of 4 bits, in a stream of which 100 were read: what is found, and what dropped.
struct fixture {
    packet_finder finder{ 4, "bits", length_key };
    std::vector<std::string> dropped;

    std::vector<std::pair<int, uint64_t>> found()
    {
        std::vector<std::pair<int, uint64_t>> all;
        while (const auto packet = finder.next([this](const auto& why) { dropped.push_back(why); }))
            all.push_back({ packet->at, packet->slot_index });
        return all;
    }
};

using places = std::vector<std::pair<int, uint64_t>>;

} // namespace

BOOST_FIXTURE_TEST_CASE(packets_are_numbered_by_tag_or_by_count, fixture)
{
    finder.look({ tag(100, length_key, pmt::from_long(4)),
                  tag(104, length_key, pmt::from_long(4)),
                  tag(104, slot_index_key, pmt::from_uint64(7)),
                  tag(108, length_key, pmt::from_long(4)),
                  tag(108, slot_index_key, pmt::mp("eight")) },
                100,
                14);
    BOOST_CHECK((found() == places{ { 0, 0 }, { 4, 7 }, { 8, 8 } }));
    BOOST_TEST(finder.read() == 14);
    BOOST_TEST(dropped.size() == 1u);
}

BOOST_FIXTURE_TEST_CASE(a_packet_that_is_not_whole_waits, fixture)
{
    finder.look({ tag(100, length_key, pmt::from_long(4)) }, 100, 3);
    BOOST_CHECK(found().empty());
    BOOST_TEST(finder.read() == 0);
    finder.look({ tag(100, length_key, pmt::from_long(4)) }, 100, 4);
    BOOST_CHECK((found() == places{ { 0, 0 } }));
    BOOST_TEST(dropped.empty());
}

BOOST_FIXTURE_TEST_CASE(a_packet_that_is_put_back_comes_again, fixture)
{
    const std::vector<tag_t> tags{ tag(100, length_key, pmt::from_long(4)),
                                   tag(104, length_key, pmt::from_long(4)) };
    finder.look(tags, 100, 8);
    const auto ignore = [](const auto&) {};
    finder.next(ignore);
    finder.put_back(*finder.next(ignore));
    BOOST_TEST(finder.read() == 4);
    finder.look({ tags[1] }, 104, 4);
    BOOST_CHECK((found() == places{ { 0, 1 } }));
}

BOOST_FIXTURE_TEST_CASE(what_is_no_packet_is_dropped_once_and_costs_no_other, fixture)
{
    finder.look({ tag(102, length_key, pmt::from_long(5)),
                  tag(107, length_key, pmt::from_long(4)), // torn
                  tag(109, length_key, pmt::mp("four")),
                  tag(113, length_key, pmt::from_long(4)) },
                100,
                17);
    BOOST_CHECK((found() == places{ { 13, 0 } }));
    BOOST_TEST(finder.read() == 17);
    BOOST_REQUIRE_EQUAL(dropped.size(), 4u);
    BOOST_TEST(dropped[0] ==
               "bits without a length tag: expected packets of 4 bits, tagged length");
    BOOST_TEST(dropped[1].find("a packet of 5 bits:") == 0u);
    BOOST_TEST(dropped[2].find("a packet that ends after 2 bits:") == 0u);
    BOOST_TEST(dropped[3].find("a packet of an unknown number of bits:") == 0u);

    finder.look({ tag(117, length_key, pmt::from_long(6)) }, 117, 2);
    BOOST_CHECK(found().empty());
    finder.look({}, 119, 4); // its rest
    BOOST_CHECK(found().empty());
    BOOST_TEST(dropped.size() == 5u);
}

BOOST_FIXTURE_TEST_CASE(tags_are_those_of_a_packets_first_item, fixture)
{
    const auto key = pmt::mp("rv");
    finder.look({ tag(100, length_key, pmt::from_long(4)),
                  tag(101, key, pmt::from_long(1)),
                  tag(104, length_key, pmt::from_long(4)),
                  tag(104, key, pmt::from_long(2)) },
                100,
                8);
    const auto ignore = [](const auto&) {};
    BOOST_CHECK(pmt::is_null(finder.tag(*finder.next(ignore), key)));
    BOOST_CHECK(pmt::to_long(finder.tag(*finder.next(ignore), key)) == 2);
}

BOOST_AUTO_TEST_SUITE_END()
