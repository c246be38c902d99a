/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "torch_archive.h"
#include "slot_of.h"

#include <torch/script.h>

#include <boost/test/unit_test.hpp>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(torch_archive_suite)

BOOST_AUTO_TEST_CASE(libtorch_reads_what_was_written_out_anew)
{
    const model_archive archive(read_model_file(MODELS "/baseline-lmmse.pt"));
    const auto model = vet_model(archive, slot_of(26, "16QAM"), 2, false);
    BOOST_TEST(model.info.name == "baseline-lmmse");
    const auto anew = archive.rewritten().text();
    const auto& program = *model.program;
    char buffer[8] = {};
    BOOST_TEST(program.size() == anew.size());
    BOOST_TEST(program.read(0, buffer, 2, "") == 2u);
    BOOST_TEST(std::string(buffer) == "PK");
    BOOST_TEST(program.read(anew.size() - 3, buffer, 8, "") == 3u); // what is there
    BOOST_TEST(program.read(anew.size(), buffer, 8, "") == 0u);
    BOOST_TEST(program.read(~uint64_t{ 0 }, buffer, 8, "") == 0u);
    std::string in_pieces; // which begin and end anywhere in records and between them
    for (size_t n = 0; (n = program.read(in_pieces.size(), buffer, 7, "")) > 0;)
        in_pieces.append(buffer, n);
    BOOST_TEST((in_pieces == anew));
    torch::jit::load(model.program);
    BOOST_TEST(model.program.use_count() == 1); // nobody reads it when it is loaded
}

BOOST_AUTO_TEST_SUITE_END()
