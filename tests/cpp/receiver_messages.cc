/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "receiver_messages.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <limits>
#include <ostream>
#include <set>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(receiver_messages_suite)

namespace {

pmt::pmt_t dict(const pmt::pmt_t& path, const pmt::pmt_t& at_slot)
{
    return pmt::dict_add(
        pmt::dict_add(pmt::make_dict(), pmt::mp("path"), path), pmt::mp("at_slot"), at_slot);
}

struct request {
    pmt::pmt_t message;
    std::optional<uint64_t> at_slot; // none: it is no request
};

std::ostream& operator<<(std::ostream& out, const request& r) { return out << r.message; }

const pmt::pmt_t m = pmt::mp("m.pt");

const request requests[]{
    { m, 0 },
    { pmt::dict_add(pmt::make_dict(), pmt::mp("path"), m), 0 },
    { dict(m, pmt::from_uint64(std::numeric_limits<uint64_t>::max())),
      std::numeric_limits<uint64_t>::max() },
    { dict(m, pmt::from_long(7)), 7 },
    { dict(m, pmt::from_long(-1)), std::nullopt },
    { dict(m, pmt::from_double(7.0)), std::nullopt },
    { dict(m, pmt::from_double(std::numeric_limits<double>::quiet_NaN())), std::nullopt },
    { dict(m, pmt::mp("7")), std::nullopt },
    { dict(m, pmt::PMT_NIL), 0 },
    { dict(pmt::from_long(7), pmt::from_long(7)), std::nullopt },
    { dict(pmt::PMT_NIL, pmt::from_long(7)), std::nullopt },
    { pmt::PMT_NIL, std::nullopt },
    { pmt::PMT_T, std::nullopt },
    { pmt::PMT_EOF, std::nullopt },
    { pmt::make_dict(), std::nullopt },
    { pmt::from_long(7), std::nullopt },
    { pmt::from_complex(1, 2), std::nullopt },
    { pmt::cons(m, m), std::nullopt },
    { pmt::cons(pmt::mp("path"), m), std::nullopt },
    { pmt::list2(m, m), std::nullopt },
    { pmt::make_tuple(m, m), std::nullopt },
    { pmt::make_vector(2, m), std::nullopt },
    { pmt::init_f32vector(2, std::vector<float>{ 1, 2 }), std::nullopt },
    { pmt::make_blob("m.pt", 4), std::nullopt },
};

uint64_t number(const pmt::pmt_t& message, const char* key)
{
    return pmt::to_uint64(pmt::dict_ref(message, pmt::mp(key), pmt::PMT_NIL));
}

std::string text(const pmt::pmt_t& message, const char* key)
{
    return pmt::symbol_to_string(pmt::dict_ref(message, pmt::mp(key), pmt::PMT_NIL));
}

struct fixture {
    fixture()
    {
        info.name = "net";
        info.sha256 = "abc";
        info.flop_per_prb = 10.0;
        info.flop_n_rx = 2;
    }
    model_info info{};
};

} // namespace

BOOST_DATA_TEST_CASE(what_is_a_request, boost::unit_test::data::make(requests), r)
{
    const auto request = to_model_request(r.message);
    BOOST_REQUIRE(request.has_value() == r.at_slot.has_value());
    if (!request)
        return;
    BOOST_TEST(request->path == "m.pt");
    BOOST_TEST(request->at_slot == *r.at_slot);
    const auto again = to_model_request(to_message(*request));
    BOOST_REQUIRE(again.has_value());
    BOOST_TEST(again->path == request->path);
    BOOST_TEST(again->at_slot == request->at_slot);
}

BOOST_FIXTURE_TEST_CASE(a_batch_is_told_slot_by_slot, fixture)
{
    const receiver_messages messages(info, "engine 1", 6, 2);
    const auto about = messages.about({ 4, 4000, 800, 401, 3 });
    for (const uint64_t index : { uint64_t(0), uint64_t(7), ~uint64_t(0) }) {
        const auto message = receiver_messages::slot(about, index);
        BOOST_TEST(pmt::length(message) == 10u);
        BOOST_TEST(number(message, "slot_index") == index);
        BOOST_TEST(number(message, "inference_ns") == 1000u);
        BOOST_TEST(number(message, "cpu_ns") == 200u);
        BOOST_TEST(number(message, "engine_cpu_ns") == 100u);
        BOOST_TEST(number(message, "queue_depth") == 3u);
        BOOST_TEST(number(message, "batch") == 4u);
        BOOST_TEST(number(message, "flop_per_slot") == 60u);
        BOOST_TEST(text(message, "model") == "net");
        BOOST_TEST(text(message, "model_sha256") == "abc");
        BOOST_TEST(text(message, "engine") == "engine 1");
    }
}

BOOST_FIXTURE_TEST_CASE(an_estimator_is_named_where_there_is_one, fixture)
{
    const receiver_messages messages(info, "engine 1", 6, 2);
    const auto about = messages.about({ 4, 4000, 800, 401, 3, pmt::mp("net") });
    BOOST_TEST(text(receiver_messages::slot(about, 7), "estimator") == "net");
}

BOOST_FIXTURE_TEST_CASE(flop_of_other_antennas_are_unknown, fixture)
{
    const receiver_messages messages(info, "engine 1", 6, 1);
    BOOST_TEST(number(messages.about({ 1, 1, 1, 1, 0 }), "flop_per_slot") == 0u);
}

BOOST_FIXTURE_TEST_CASE(answers_and_drops, fixture)
{
    const auto loaded = receiver_messages(info, "engine 1", 6, 1).model_loaded();
    BOOST_TEST(pmt::length(loaded) == 3u);
    BOOST_TEST(text(loaded, "model_loaded") == "net");
    BOOST_TEST(text(loaded, "model_sha256") == "abc");
    BOOST_TEST(text(loaded, "engine") == "engine 1");
    for (const auto& [key, message] : { std::pair("model_error", receiver_messages::model_error),
                                        { "model_replaced", receiver_messages::model_replaced },
                                        { "model_lost", receiver_messages::model_lost },
                                        { "estimate_error", receiver_messages::estimate_error } }) {
        const auto error = message("no such file");
        BOOST_TEST(pmt::length(error) == 1u);
        BOOST_TEST(text(error, key) == "no such file");
    }
    const auto dropped = receiver_messages::dropped(7, "NaN");
    BOOST_TEST(pmt::length(dropped) == 2u);
    BOOST_TEST(number(dropped, "slot_index") == 7u);
    BOOST_TEST(text(dropped, "dropped") == "NaN");
}

BOOST_AUTO_TEST_CASE(texts_of_strangers_become_no_symbols_without_end) // the last: it takes all
{
    std::set<std::string> texts;
    for (int i = 0; i < 500; i++) {
        const std::string why = "reason " + std::to_string(i);
        texts.insert(text(receiver_messages::dropped(i, why), "dropped"));
        texts.insert(text(receiver_messages::model_error(why), "model_error"));
        texts.insert(text(receiver_messages::model_replaced(why), "model_replaced"));
        texts.insert(text(receiver_messages::model_lost(why), "model_lost"));
        texts.insert(text(receiver_messages::estimate_error(why), "estimate_error"));
    }
    BOOST_TEST(texts.size() <= 257u);
    BOOST_TEST(texts.count("reason 7") == 1u);
    BOOST_TEST(text(receiver_messages::dropped(0, "one more"), "dropped") == "see the log");
    BOOST_TEST(text(receiver_messages::dropped(0, "reason 7"), "dropped") == "reason 7");
}

BOOST_AUTO_TEST_SUITE_END()
