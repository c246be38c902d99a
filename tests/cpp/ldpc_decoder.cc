/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_decoder.h"
#include "belief_propagation.h"
#include "golden.h"
#include "numpy_random.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <random>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(ldpc_decoder_suite)

struct noisy_block {
    std::vector<uint8_t> bits;
    std::vector<int8_t> llr;
};

namespace {

//! Through noise, all but the last columns.
noisy_block noisy(const ldpc_code& code, int columns, double es, int seed)
{
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    noisy_block b{ std::vector<uint8_t>(code.n()), std::vector<int8_t>(code.n()) };
    for (int i = 0; i < code.k(); i++)
        b.bits[i] = random() & 1;
    code.encode(b.bits.data());
    for (int i = 2 * code.lifting_size(); i < columns * code.lifting_size(); i++) {
        const double llr = 2 * ((b.bits[i] ? -es : es) + std::sqrt(es) * normal(random));
        b.llr[i] = std::lrint(std::clamp(ldpc_decoder::scale * llr, -127.0, 127.0));
    }
    return b;
}

const int sizes[]{ 2, 3, 7, 15, 16, 30, 32, 36, 60, 64, 72, 88, 120, 208, 352, 384 };

} // namespace

BOOST_DATA_TEST_CASE(every_lifting_size_decodes,
                     boost::unit_test::data::make({ 1, 2 }) * boost::unit_test::data::make(sizes),
                     graph,
                     size)
{
    const ldpc_code code(graph, size);
    ldpc_decoder decoder;
    for (const int columns : { code.k_columns() + 5, code.n_columns() }) {
        const noisy_block b = noisy(code, columns, 8, size);
        std::vector<uint8_t> bits(code.k());
        const auto right = [&] { return std::equal(bits.begin(), bits.end(), b.bits.begin()); };
        BOOST_TEST(decoder.decode(code, b.llr.data(), 0, 8, right, bits.data()).accepted);
    }
}

BOOST_DATA_TEST_CASE(all_processors_give_the_same_bits,
                     boost::unit_test::data::make({ 1, 2 }) * boost::unit_test::data::make(sizes),
                     graph,
                     size)
{
    const ldpc_code code(graph, size);
    const auto kernels = ldpc_kernels();
    for (const double es : { 0.6, 1.0, 1.5, 2.5 }) {
        const noisy_block b = noisy(code, code.k_columns() + 15, es, size);
        std::vector<std::vector<uint8_t>> bits(kernels.size(), std::vector<uint8_t>(code.k()));
        for (size_t i = 0; i < kernels.size(); i++)
            ldpc_decoder(*kernels[i])
                .decode(
                    code, b.llr.data(), size, 8, [] { return false; }, bits[i].data());
        for (size_t i = 1; i < kernels.size(); i++)
            BOOST_TEST((bits[i] == bits[0]), kernels[i]->instructions);
    }
}

BOOST_AUTO_TEST_CASE(fillers_are_known)
{
    const ldpc_code code(1, 32);
    std::vector<int8_t> llr(code.n(), -20);
    std::vector<uint8_t> bits(code.k());
    ldpc_decoder().decode(
        code, llr.data(), 70, 8, [] { return false; }, bits.data());
    BOOST_TEST(std::count(bits.end() - 70, bits.end(), 1) == 0);
}

BOOST_AUTO_TEST_CASE(the_reference_fails_where_sionna_does)
{
    int differences = 0;
    for (const auto& golden : sionna()["decoded"]) {
        const int graph = golden["base_graph"], k = golden["k"], n = golden["n"];
        const ldpc_code code(graph, k / (graph == 1 ? 22 : 10));
        const double es = std::pow(10, golden["es_n0_db"].get<double>() / 10);
        belief_propagation reference(code, 20);
        for (int seed = 0; seed < golden["blocks"]; seed++) {
            numpy_random uniform({ static_cast<uint64_t>(seed) });
            std::vector<float> llr(code.n());
            for (int i = 0; i < n; i++) {
                const double u = uniform(), v = uniform();
                const double normal = std::sqrt(-2 * std::log(1 - u)) * std::cos(2 * M_PI * v);
                llr[2 * code.lifting_size() + i] = 2 * (es + std::sqrt(es) * normal);
            }
            const std::vector<int> wrong = golden["wrong"];
            const bool fails = std::find(wrong.begin(), wrong.end(), seed) != wrong.end();
            const std::vector<uint8_t> zeros(k);
            differences += fails == reference.decodes(llr.data(), zeros.data());
        }
    }
    BOOST_TEST(differences <= 2); // of 500: where rounding decides
}

BOOST_AUTO_TEST_SUITE_END()
