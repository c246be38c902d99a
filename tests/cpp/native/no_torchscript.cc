/* SPDX-License-Identifier: GPL-3.0-or-later */

// What a build without PyTorch receives with, and what it says of the rest.

#include "../raises.h"
#include "../slot_of.h"
#include "engine.h"
#include "model_archive.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <link.h>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(no_torchscript_suite)

namespace {

engine_parameters parameters(const std::string& engine = "auto")
{
    return { slot_of(6, "16QAM"), 2, "cpu", 1, 2, engine };
}

const std::string pusch = MODELS "/deeprx-pusch.pt";

} // namespace

BOOST_AUTO_TEST_CASE(no_library_of_a_net_is_in_the_process)
{
    std::string all;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* names) {
            *static_cast<std::string*>(names) += std::string(info->dlpi_name) + ' ';
            return 0;
        },
        &all);
    BOOST_TEST(all.find("libc.so") != std::string::npos);
    for (const char* library : { "torch", "libc10", "openvino", "gnuradio" })
        BOOST_TEST(all.find(library) == std::string::npos, all);
}

BOOST_DATA_TEST_CASE(
    weights_and_classical_receivers_run,
    boost::unit_test::data::make({ pusch.c_str(), "ls-lmmse", "sure-lmmse", "gnb" }) *
        boost::unit_test::data::make({ 1, 2 }),
    model,
    threads)
{
    auto p = parameters();
    p.threads = threads;
    const auto engine = load_engine(model, p);
    BOOST_TEST(engine->description().find("native, ") == 0u);
    engine->warm_up({ 1, 2 });
    const float* llr = engine->infer(2);
    const size_t n = 2 * parameters().slot.n_re() * engine->llr_stride();
    BOOST_TEST(std::all_of(llr, llr + n, [](float value) { return std::isfinite(value); }));
    BOOST_TEST(std::any_of(llr, llr + n, [](float value) { return value != 0.0f; }));
    BOOST_TEST(inference_cpu_ns() > 0u);
}

BOOST_DATA_TEST_CASE(
    programs_are_refused_in_a_line_that_says_what_runs,
    boost::unit_test::data::make({ "baseline-sure", "deeprx-student", "deeprx-teacher" }),
    name)
{
    const std::string file = MODELS "/" + std::string(name) + ".pt";
    for (const char* words : { "model file '",
                               "runs as a program only",
                               "built without PyTorch",
                               "sure-lmmse and gnb" })
        check_raises<std::runtime_error>([&] { load_engine(file, parameters()); }, words);
    check_raises<std::runtime_error>(
        [&] { check_model_bytes(read_model_file(file), parameters()); }, "built without PyTorch");
}

BOOST_AUTO_TEST_CASE(what_only_libtorch_has_is_refused)
{
    for (const char* engine : { "torchscript", "openvino" })
        check_raises<std::runtime_error>(
            [&] { load_engine(pusch, parameters(engine)); },
            std::string("engine=\"") + engine +
                "\" was asked for, and this gr-deeprx was built without PyTorch");
    auto p = parameters();
    p.device = "cuda:1";
    check_raises<std::runtime_error>([&] { load_engine(pusch, p); },
                                     "device \"cuda:1\" is LibTorch's, and this gr-deeprx");
    p.device = "tpu";
    check_raises<std::invalid_argument>([&] { load_engine(pusch, p); }, "device must be \"cpu\"");
}

BOOST_AUTO_TEST_SUITE_END()
