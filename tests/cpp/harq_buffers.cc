/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "harq_buffers.h"
#include "raises.h"

#include <boost/test/unit_test.hpp>

using gr::deeprx::harq_buffers;
using gr::deeprx::soft_block;

namespace {

soft_block bits(size_t soft_bits) { return { 24, 2, soft_bits }; }

} // namespace

BOOST_AUTO_TEST_SUITE(harq_buffers_suite)

BOOST_AUTO_TEST_CASE(a_process_keeps_its_buffer_until_new_data)
{
    harq_buffers buffers;
    buffers.of({ 1, 0 }, true, bits(3)).llr = { 1, 2, 3 };
    buffers.of({ 1, 1 }, true, bits(3));
    buffers.of({ 2, 0 }, true, bits(3));
    BOOST_TEST(buffers.of({ 1, 0 }, false, bits(3)).llr == (std::vector<int8_t>{ 1, 2, 3 }));
    BOOST_TEST(buffers.of({ 1, 0 }, true, bits(2)).llr == (std::vector<int8_t>{ 0, 0 }));
    BOOST_TEST(buffers.size() == 3);
}

BOOST_AUTO_TEST_CASE(transmissions_are_counted_from_new_data_on)
{
    harq_buffers buffers;
    BOOST_TEST(buffers.of({ 1, 0 }, true, bits(3)).transmissions == 1);
    BOOST_TEST(buffers.of({ 1, 0 }, false, bits(3)).transmissions == 2);
    BOOST_TEST(buffers.of({ 1, 0 }, true, bits(3)).transmissions == 1);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_refused_and_changes_nothing)
{
    harq_buffers buffers;
    buffers.of({ 1, 0 }, true, bits(3)).llr = { 1, 2, 3 };
    check_raises<std::invalid_argument>(
        [&] {
            buffers.of({ 1, 1 }, false, bits(3));
        },
        "RNTI 1, process 1, of which there is no first");
    check_raises<std::invalid_argument>(
        [&] {
            buffers.of({ 1, 0 }, false, bits(4));
        },
        "of another block: expected 24 bits (base graph 2, a soft buffer of 3 LLRs), got 24 bits "
        "(base graph 2, a soft buffer of 4 LLRs)");
    check_raises<std::invalid_argument>(
        [&] {
            buffers.of({ 1, 0 }, false, { 32, 2, 3 });
        },
        "got 32 bits");
    check_raises<std::invalid_argument>(
        [&] {
            buffers.of({ 1, 0 }, false, { 24, 1, 3 });
        },
        "got 24 bits (base graph 1");
    BOOST_TEST(buffers.of({ 1, 0 }, false, bits(3)).llr == (std::vector<int8_t>{ 1, 2, 3 }));
    BOOST_TEST(buffers.size() == 1);
    check_raises<std::invalid_argument>([] { harq_buffers(0); }, "got 0");
}

BOOST_AUTO_TEST_CASE(of_new_data_that_cannot_be_received_nothing_is_combined)
{
    harq_buffers buffers(2);
    buffers.of({ 1, 0 }, true, bits(3)).llr = { 1, 2, 3 };
    buffers.of({ 1, 1 }, true, bits(3));
    buffers.flush({ 1, 1 });
    buffers.flush({ 7, 7 }); // of which there is nothing
    check_raises<std::invalid_argument>(
        [&] {
            buffers.of({ 1, 1 }, false, bits(3));
        },
        "process 1, of which there is no first");
    buffers.of({ 1, 2 }, true, bits(3)); // in the place of what was flushed
    BOOST_TEST(buffers.dropped() == 0u);
    BOOST_TEST(buffers.of({ 1, 0 }, false, bits(3)).transmissions == 2);
}

BOOST_AUTO_TEST_CASE(of_too_many_the_oldest_is_dropped_and_counted)
{
    harq_buffers buffers(2);
    buffers.of({ 1, 0 }, true, bits(1));
    buffers.of({ 1, 1 }, true, bits(1));
    buffers.of({ 1, 0 }, false, bits(1));
    BOOST_TEST(buffers.dropped() == 0u);
    buffers.of({ 1, 2 }, true, bits(1));
    BOOST_TEST(buffers.dropped() == 1u);
    BOOST_TEST(buffers.size() == 2);
    check_raises<std::invalid_argument>([&] { buffers.of({ 1, 1 }, false, bits(1)); }, "process 1");
    buffers.of({ 1, 0 }, false, bits(1));
}

BOOST_AUTO_TEST_SUITE_END()
