/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_engine.h"
#include "classical_receiver.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(classical_engine_suite)

namespace {

engine_parameters two_users(int threads = 1)
{
    slot_config slot;
    slot.n_prb = 8;
    slot.users = { {}, {} };
    slot.users[0].modulation = "QPSK";
    slot.users[1].modulation = "64QAM";
    slot.users[1].port = 1;
    return { slot_geometry(slot), 2, "cpu", threads, 3, "auto" };
}

} // namespace

BOOST_DATA_TEST_CASE(llrs_are_the_receivers,
                     boost::unit_test::data::make(classical_names()) *
                         boost::unit_test::data::make({ false, true }) *
                         boost::unit_test::data::make({ 1, 2, 8 }),
                     name,
                     shared,
                     threads)
{
    engine_parameters p = two_users(threads);
    const size_t re = p.slot.n_re();
    std::vector<float> grids(3 * 2 * re * 2), pilots(3 * 2 * re * 2), llrs(3 * 2 * re * 6);
    if (shared) {
        p.grids = grids.data();
        p.pilots = pilots.data();
        p.llrs = llrs.data();
    }
    const auto engine = load_engine(name, p);
    BOOST_TEST(engine->info().name == name);
    BOOST_TEST(engine->description() ==
               std::string("native, float32, ") + classical_receiver::best().instructions);
    engine->warm_up({ 1, 3 });
    BOOST_TEST(engine->llr_stride() == 6);
    const float* all = engine->infer(3);
    BOOST_TEST((all == llrs.data()) == shared);

    classical_receiver receiver(layout_of(p.slot), p.n_rx, classical_kind(name));
    std::vector<float> expected(2 * re * 6);
    for (int slot = 0; slot < 3; slot++) { // noise, as they were made with
        receiver.receive(engine->grid(slot), engine->pilots(slot), expected.data());
        BOOST_TEST(std::equal(expected.begin(), expected.end(), all + slot * expected.size()));
        BOOST_TEST(
            std::any_of(expected.begin(), expected.end(), [](float llr) { return llr != 0.0f; }));
    }
}

BOOST_DATA_TEST_CASE(estimates_are_the_receivers,
                     boost::unit_test::data::make(classical_names()) *
                         boost::unit_test::data::make({ 1, 2 }),
                     name,
                     threads)
{
    const engine_parameters p = two_users(threads);
    const auto engine = load_engine(name, p);
    engine->infer(3);
    const auto given = engine->estimate(3);
    BOOST_REQUIRE(given.has_value());

    classical_receiver receiver(layout_of(p.slot), p.n_rx, classical_kind(name));
    std::vector<float> channel(2 * 2 * p.slot.n_re() * 2), noise(2);
    for (int slot = 0; slot < 3; slot++) {
        receiver.estimate(engine->grid(slot), engine->pilots(slot));
        receiver.copy_channel(channel.data());
        receiver.copy_noise(noise.data());
        BOOST_TEST(
            std::equal(channel.begin(), channel.end(), given->channel + slot * channel.size()));
        BOOST_TEST(std::equal(noise.begin(), noise.end(), given->noise + 2 * slot));
        BOOST_TEST(noise[0] > 0.0f);
    }
}

BOOST_AUTO_TEST_CASE(what_it_cannot_do_is_refused)
{
    engine_parameters p = two_users();
    p.device = "cuda";
    check_raises<std::runtime_error>([&] { load_engine("gnb", p); },
                                     "receiver 'gnb': it runs on the CPU, the receiver has "
                                     "device=\"cuda\"");
    p = two_users();
    p.engine = "openvino";
    check_raises<std::runtime_error>([&] { load_engine("ls-lmmse", p); },
                                     "needs no engine, the receiver has engine=\"openvino\"");
    p = two_users();
    p.n_rx = 1;
    check_raises<std::runtime_error>([&] { load_engine("gnb", p); },
                                     "zero forcing of two users needs 2 antennas or more, got 1");
}

BOOST_AUTO_TEST_SUITE_END()
