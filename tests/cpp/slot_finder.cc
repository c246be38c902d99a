/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_finder.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using gr::deeprx::slot_finder;
using tags = std::vector<slot_finder::length_tag>;

BOOST_AUTO_TEST_SUITE(slot_finder_suite)

namespace {

struct look {
    const char* what;
    tags lengths;
    bool is_slot;
    int symbols;
    const char* dropped; // words
};

std::ostream& operator<<(std::ostream& out, const look& l) { return out << l.what; }

const look looks[]{
    { "a slot", { { 0, 0, "" } }, true, 14, "" },
    { "a slot, tagged on every stream", { { 0, 0, "" }, { 1, 0, "" } }, true, 14, "" },
    { "nothing", {}, false, 14, "no length tag on the first symbol" },
    { "a start further on", { { 0, 5, "" } }, false, 5, "no length tag on the first symbol" },
    { "two starts further on", { { 0, 9, "" }, { 0, 5, "" } }, false, 5, "no length tag" },
    { "a short packet", { { 0, 0, "10" }, { 0, 10, "" } }, false, 10, "packet of 10 symbols" },
    { "a length that is none", { { 0, 0, "many" } }, false, 14, "packet of many symbols" },
    { "a start inside", { { 0, 0, "" }, { 0, 5, "" } }, false, 5, "inside a slot, after 5" },
    { "another stream's start inside",
      { { 0, 0, "" }, { 1, 3, "" } },
      false,
      14,
      "input 1 is not" },
    { "a start of another stream only", { { 1, 0, "" } }, false, 14, "no length tag" },
};

} // namespace

BOOST_DATA_TEST_CASE(what_is_a_slot, boost::unit_test::data::make(looks), l)
{
    slot_finder finder;
    finder.expect(7);
    const auto place = finder.look(l.lengths, std::nullopt);
    BOOST_TEST(place.is_slot == l.is_slot);
    BOOST_TEST(place.symbols == l.symbols);
    BOOST_TEST(place.slot_index == 7u);
    BOOST_TEST(place.dropped.empty() == l.is_slot);
    BOOST_TEST(place.dropped.find(l.dropped) != std::string::npos);
}

BOOST_AUTO_TEST_CASE(slots_are_numbered_on_from_the_last_tag)
{
    slot_finder finder;
    const tags start{ { 0, 0, "" } };
    BOOST_TEST(finder.look(start, std::nullopt).slot_index == 0u);
    BOOST_TEST(finder.look(start, uint64_t{ 1 } << 40).slot_index == uint64_t{ 1 } << 40);
    BOOST_TEST(finder.look(start, std::nullopt).slot_index == (uint64_t{ 1 } << 40) + 1);
    BOOST_TEST(finder.look({ { 0, 0, "10" } }, 5).slot_index == 5u); // dropped, and counted
    BOOST_TEST(finder.look({}, std::nullopt).slot_index == 6u);      // no slot: not counted
    BOOST_TEST(finder.look(start, std::nullopt).slot_index == 6u);
    finder.expect(6);
    BOOST_TEST(finder.look(start, std::nullopt).slot_index == 6u);
}

BOOST_AUTO_TEST_CASE(a_run_without_slots_is_one_drop)
{
    slot_finder finder;
    BOOST_TEST(!finder.look({}, std::nullopt).dropped.empty());
    BOOST_TEST(finder.look({}, std::nullopt).dropped.empty());
    BOOST_TEST(finder.look({ { 0, 3, "" } }, std::nullopt).dropped.empty());
    BOOST_TEST(finder.look({ { 0, 0, "" } }, std::nullopt).is_slot);
    BOOST_TEST(!finder.look({}, std::nullopt).dropped.empty());
    BOOST_TEST(
        !finder.look({ { 0, 0, "7" } }, std::nullopt).dropped.empty()); // a packet of its own
}

BOOST_AUTO_TEST_SUITE_END()
