/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_batches.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using namespace gr::deeprx;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(slot_batches_suite)

namespace {

//! Submits a batch of n slots, behind items that were dropped.
void submit(slot_batches& batches, int n, int dropped = 0, std::chrono::milliseconds at = 0ms)
{
    batches.next().n = n;
    batches.offset += dropped + 14 * n;
    batches.submitted(slot_batches::clock::time_point(at));
}

struct input {
    const char* what;
    int depth;
    std::vector<std::pair<int, int>> batches; // slots of each, and items dropped before it
    int dropped_behind;
    std::vector<int> consumed; // with each
};

std::ostream& operator<<(std::ostream& out, const input& i) { return out << i.what; }

const input inputs[]{
    { "one", 1, { { 3, 0 } }, 0, { 42 } },
    { "one behind dropped symbols", 1, { { 1, 5 } }, 0, { 19 } },
    { "what is dropped behind the last goes with it", 1, { { 1, 0 } }, 20, { 34 } },
    { "two", 2, { { 2, 0 }, { 1, 0 } }, 0, { 28, 14 } },
    { "what is dropped between waits for the second", 2, { { 2, 3 }, { 1, 5 } }, 7, { 31, 26 } },
    { "three", 3, { { 1, 0 }, { 2, 1 }, { 4, 0 } }, 0, { 14, 29, 56 } },
};

} // namespace

BOOST_DATA_TEST_CASE(input_is_consumed_in_order, boost::unit_test::data::make(inputs), i)
{
    slot_batches batches(i.depth, 4);
    BOOST_TEST(batches.empty());
    int slots = 0;
    for (const auto& [n, dropped] : i.batches) {
        BOOST_TEST(!batches.full());
        submit(batches, n, dropped);
        slots += n;
        BOOST_TEST(batches.slots() == slots);
    }
    BOOST_TEST(batches.full() == (int(i.batches.size()) == i.depth));
    batches.offset += i.dropped_behind;
    for (size_t k = 0; k < i.consumed.size(); k++) {
        BOOST_TEST(batches.oldest().n == i.batches[k].first);
        BOOST_TEST(batches.release() == i.consumed[k]);
    }
    BOOST_TEST(batches.empty());
    BOOST_TEST(batches.offset == 0);
}

//! What is consumed is no longer there: the slots under way have come nearer.
BOOST_AUTO_TEST_CASE(slots_under_way_stay_where_they_are)
{
    slot_batches batches(2, 4);
    for (const int n : { 2, 3 }) {
        for (int i = 0; i < n; i++)
            batches.next().slots[i].offset = batches.offset + 5 + 14 * i;
        submit(batches, n, 5);
    }
    BOOST_TEST(batches.oldest().slots[1].offset == 19);
    BOOST_TEST(batches.release() == 33);
    BOOST_TEST(batches.oldest().slots[0].offset == 5);
    BOOST_TEST(batches.oldest().slots[2].offset == 33);
}

BOOST_AUTO_TEST_CASE(batches_go_round)
{
    slot_batches batches(2, 4);
    submit(batches, 1);
    for (int n = 2; n < 10; n++) {
        submit(batches, n % 4 + 1);
        BOOST_TEST(!batches.oldest().alone == (n > 2));
        BOOST_TEST(batches.release() == 14 * (n == 2 ? 1 : (n - 1) % 4 + 1));
        BOOST_TEST(batches.oldest().slots.size() == 4u);
    }
}

BOOST_AUTO_TEST_CASE(of_the_time_that_two_were_under_way_each_has_its_part)
{
    slot_batches batches(2, 1);
    const auto collected = [&](std::chrono::milliseconds at) {
        const auto took = batches.collected(slot_batches::clock::time_point(at));
        batches.release();
        return std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
    };
    submit(batches, 1, 0, 10ms);
    submit(batches, 1, 0, 12ms);
    BOOST_TEST(collected(15ms) == 5);
    submit(batches, 1, 0, 16ms);
    BOOST_TEST(collected(21ms) == 6);
    BOOST_TEST(collected(24ms) == 3);
    submit(batches, 1, 0, 40ms); // nothing was under way
    BOOST_TEST(batches.oldest().alone);
    BOOST_TEST(collected(41ms) == 1);
}

BOOST_AUTO_TEST_SUITE_END()
