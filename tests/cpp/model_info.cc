/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_info.h"
#include "raises.h"

#include "slot_of.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <ostream>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(model_info_suite)

namespace {

const std::string good = R"({
    "contract": "deeprx.model/2", "name": "test", "precision": "float32", "requires": [],
    "quantized_engine": null, "layers": [1], "n_rx": [1, 2], "n_prb": [6, 100],
    "prb_multiple_of": 2, "n_sym": [14], "dmrs": [[2], [2, 11]], "n_dmrs": [1, 2], "cdm_groups": [1],
    "modulations": ["QPSK", "16QAM"], "bits": 4, "more": {"of": ["anything"]},
    "flop_per_slot": {"n_prb": 26, "n_rx": 2, "matmul": 1000, "other": 40}})";

//! good with one member in place of another.
std::string with(const std::string& key, const std::string& value)
{
    std::string json = good;
    const size_t at = json.find('"' + key + "\":");
    const size_t from = json.find(':', at) + 1;
    size_t to = from;
    for (int depth = 0; depth > 0 || (json[to] != ',' && json[to] != '}'); to++)
        depth += (json[to] == '[' || json[to] == '{') - (json[to] == ']' || json[to] == '}');
    return json.replace(from, to - from, ' ' + value);
}

struct wrong {
    std::string json;
    const char* words;
};

std::ostream& operator<<(std::ostream& out, const wrong& w)
{
    return out << w.words << ": " << w.json.substr(0, 300);
}

const wrong wrongs[]{
    { "", "not JSON" },
    { "{", "not JSON" },
    { "no", "not JSON" },
    { good + "{}", "not JSON" },
    { with("bits", "NaN"), "not JSON" },
    { with("name", "\"\xff\""), "not JSON" },
    { "[]", "not an object" },
    { "7", "not an object" },
    { "null", "not an object" },
    { std::string(100000, '['), "nested more than 32" },
    { with("more", std::string(32, '[') + std::string(32, ']')), "nested more than 32" },
    { with("contract", "\"deeprx.model/9\""), "deeprx.model/9" },
    { with("contract", "\"deeprx.model/1\""), "`./dev train convert FILE.pt` converts the file" },
    { with("contract", "1"), "\"contract\"" },
    { with("name", "null"), "\"name\"" },
    { with("precision", "32"), "\"precision\"" },
    { with("precision", "\"float64\""), "\"precision\"" },
    { with("requires", "\"cuda\""), "\"requires\"" },
    { with("quantized_engine", "1"), "\"quantized_engine\"" },
    { with("prb_multiple_of", "0"), "\"prb_multiple_of\" must be 1 or more" },
    { with("prb_multiple_of", "1.5"), "\"prb_multiple_of\"" },
    { with("n_rx", "2"), "\"n_rx\"" },
    { with("n_rx", "{\"two\": 2}"), "\"n_rx\"" },
    { with("n_rx", "[\"2\"]"), "\"n_rx\"" },
    { with("n_sym", "14"), "\"n_sym\"" },
    { with("more", "0, \"scs_khz\": 15"), "\"scs_khz\"" },
    { with("layers", "1"), "\"layers\"" },
    { with("n_dmrs", "null"), "\"n_dmrs\"" },
    { with("cdm_groups", "[\"1\"]"), "\"cdm_groups\"" },
    { with("n_prb", "6"), "\"n_prb\"" },
    { with("n_prb", "[6]"), "\"n_prb\"" },
    { with("n_prb", "[100, 6]"), "\"n_prb\"" },
    { with("n_prb", "[-5, 273]"), "\"n_prb\"" },
    { with("n_prb", "[18446744073709551615, 273]"), "\"n_prb\"" },
    { with("dmrs", "[2, 11]"), "\"dmrs\"" },
    { with("dmrs", "{}"), "\"dmrs\"" },
    { with("modulations", "[4]"), "\"modulations\"" },
    { with("bits", "4294967300"), "\"bits\"" },
    { with("bits", "-99999999999999999999"), "\"bits\"" },
    { with("bits", "18446744073709551615"), "\"bits\"" },
    { with("bits", "true"), "\"bits\"" },
    { with("flop_per_slot", "[1]"), "no \"matmul\"" },
    { with("flop_per_slot", R"({"matmul": -1, "other": 0, "n_prb": 1, "n_rx": 1})"), "matmul" },
    { with("flop_per_slot", R"({"matmul": 1, "other": 0, "n_prb": 0, "n_rx": 1})"), "0 PRB" },
    { with("more", "0, \"trained\": []"), "\"trained\"" },
    { with("more", "0, \"trained\": {\"snr_db\": [1, 2, 3]}"), "\"snr_db\"" },
    { with("more", "0, \"trained\": {\"sir_db\": [\"a\", \"b\"]}"), "\"sir_db\"" },
    { with("more", "0, \"trained\": {\"doppler_hz\": [9, 1]}"), "\"doppler_hz\"" },
    { with("more", "0, \"trained\": {\"snr_db\": [0, 1e300]}"), "\"snr_db\"" },
};

struct misfit {
    int n_prb;
    const char* modulation;
    std::vector<int> dmrs;
    int n_rx;
    const char* words; // empty: it fits
};

std::ostream& operator<<(std::ostream& out, const misfit& m) { return out << m.words; }

const misfit misfits[]{ { 26, "16QAM", { 2, 11 }, 2, "" },
                        { 6, "QPSK", { 2 }, 1, "" },
                        { 26, "16QAM", { 2, 11 }, 3, "n_rx of [1, 2]" },
                        { 25, "16QAM", { 2, 11 }, 2, "multiples of 2 PRB" },
                        { 102, "16QAM", { 2, 11 }, 2, "6 to 100 PRB" },
                        { 26, "16QAM", { 3 }, 2, "[[2], [2, 11]]" },
                        { 26, "64QAM", { 2 }, 2, "modulation=64QAM" } };

} // namespace

BOOST_AUTO_TEST_CASE(what_a_good_one_says)
{
    const auto info = parse_model_info(good);
    BOOST_TEST(info.name == "test");
    BOOST_TEST(info.bits == 4);
    BOOST_TEST(info.dmrs.size() == 2u);
    BOOST_TEST(info.quantized_engine == "");
    BOOST_TEST(info.trained == "");
    BOOST_TEST(info.flop_per_slot(26, 2) == 1040u);
    BOOST_TEST(info.flop_per_slot(52, 2) == 2080u);
    BOOST_TEST(info.flop_per_slot(26, 1) == 0u);
}

BOOST_AUTO_TEST_CASE(trained_ranges_are_in_the_fields_terms)
{
    const auto info = parse_model_info(
        with("more", R"(0, "trained": {"delay_spread_s": [1e-8, 3e-7], "doppler_hz": [0, 500.0],
                "snr_db": [-4, 32], "sir_db": null, "channels": ["TDL-B"]})"));
    BOOST_TEST(info.trained == "delay spread 10 to 300 ns, Doppler 0 to 500 Hz, SNR -4 to 32 dB");
}

BOOST_DATA_TEST_CASE(a_wrong_one_is_one_line, boost::unit_test::data::make(wrongs), w)
{
    check_raises<std::runtime_error>([&] { parse_model_info(w.json); }, w.words);
}

BOOST_DATA_TEST_CASE(slots_that_a_model_takes, boost::unit_test::data::make(misfits), m)
{
    const auto info = parse_model_info(good);
    const auto check = [&] {
        check_model_fits(info, slot_of(m.n_prb, m.modulation, m.dmrs, 0), m.n_rx, false);
    };
    if (std::string(m.words).empty())
        check();
    else
        check_raises<std::runtime_error>(check, m.words);
}

BOOST_AUTO_TEST_CASE(spacings_that_a_model_takes)
{
    const auto fits = [](const std::string& json, int scs_khz) {
        auto config = slot_of(26, "16QAM").config();
        config.scs_khz = scs_khz;
        check_model_fits(parse_model_info(json), slot_geometry(config), 2, false);
    };
    const auto says = [](const std::string& scs_khz) {
        return with("more", "0, \"scs_khz\": " + scs_khz);
    };
    for (const int scs_khz : { 15, 30, 60 })
        for (const auto& json : { good, says("null"), says("[15, 30, 60]") })
            fits(json, scs_khz);
    check_raises<std::runtime_error>([&] { fits(says("[15, 60]"), 30); },
                                     "takes scs_khz of [15, 60], the receiver has scs_khz=30");
}

BOOST_AUTO_TEST_CASE(who_takes_a_slot_that_a_model_does_not)
{
    const auto info = parse_model_info(good);
    const auto check = [&](int n_rx, int layers, bool on_cuda) {
        auto config = slot_of(26, "64QAM", { 2, 11 }, 0).config();
        config.users.resize(layers, config.users.front());
        config.users.back().port = layers - 1;
        check_model_fits(info, slot_geometry(config), n_rx, on_cuda);
    };
    const auto said = [&](const std::string& words, auto... arguments) {
        check_raises<std::runtime_error>([&] { check(arguments...); }, words);
    };
    said("modulation=64QAM; ls-lmmse, sure-lmmse and gnb take this slot", 2, 1, false);
    said("layers=2; ls-lmmse, sure-lmmse and gnb take this slot, on the CPU", 2, 2, true);
    said("layers=2; ls-lmmse and sure-lmmse take this slot", 1, 2, false); // see gnb_estimator
}

BOOST_AUTO_TEST_CASE(a_name_is_short_and_printable)
{
    BOOST_TEST(parse_model_info(with("name", R"("a\tb\nc")")).name == "a b c");
    const std::string longest = '"' + std::string(100000, 'n') + '"';
    BOOST_TEST(parse_model_info(with("name", longest)).name.size() == 500);
}

BOOST_AUTO_TEST_SUITE_END()
