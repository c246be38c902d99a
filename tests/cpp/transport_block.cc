/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "transport_block.h"
#include "crc.h"
#include "golden.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <random>

using namespace gr::deeprx;
using bits = std::vector<uint8_t>;

BOOST_AUTO_TEST_SUITE(transport_block_suite)

namespace {

// TS 38.212 clause 5.4.2, as it is written there: each place of the circular buffer is looked at,
// and passed over where it holds one of the fillers, which follow the k_r bits of a code block.
// \return for each bit that is sent, after interleaving, its place
std::vector<int> sent_places(const ldpc_code& code, int k_r, int rv, int e, int qm, int n_cb)
{
    const int z = code.lifting_size();
    constexpr int bg1[]{ 0, 17, 33, 56 }, bg2[]{ 0, 13, 25, 43 };
    const int k_0 =
        code.base_graph() == 1 ? bg1[rv] * n_cb / (66 * z) * z : bg2[rv] * n_cb / (50 * z) * z;
    std::vector<int> selected, f(e);
    for (int j = 0; static_cast<int>(selected.size()) < e; j++) {
        const int place = (k_0 + j) % n_cb;
        if (place + 2 * z < k_r || place + 2 * z >= code.k())
            selected.push_back(place);
    }
    for (int j = 0; j < e / qm; j++)
        for (int i = 0; i < qm; i++)
            f[i + j * qm] = selected[i * e / qm + j];
    return f;
}

bits rate_matched(const ldpc_code& code, const bits& c, int rv, int e, int qm, int n_cb)
{
    bits word = c;
    word.resize(code.n());
    code.encode(word.data());
    bits f;
    for (const int place : sent_places(code, c.size(), rv, e, qm, n_cb))
        f.push_back(word[2 * code.lifting_size() + place]);
    return f;
}

bits bits_of_bytes(const std::vector<uint8_t>& bytes)
{
    bits all;
    for (const uint8_t byte : bytes)
        for (int bit = 7; bit >= 0; bit--)
            all.push_back(byte >> bit & 1);
    return all;
}

std::vector<uint8_t> random_block(const transport_block& b)
{
    std::mt19937 random(b.size());
    std::vector<uint8_t> block(b.size() / 8);
    for (auto& byte : block)
        byte = random();
    return block;
}

struct shape {
    int size, coded_bits, bits_per_symbol;
    double code_rate;
    int layers, limited_buffer;
    int base_graph, code_blocks, lifting_size;
};

std::ostream& operator<<(std::ostream& out, const shape& s)
{
    return out << s.size << " bits in " << s.coded_bits << ", limited to " << s.limited_buffer;
}

// N_cb of clause 5.4.2.1
int buffer_of(const shape& s, const ldpc_code& code)
{
    const int all = code.n() - 2 * code.lifting_size();
    const int n_ref = static_cast<int>(std::floor(s.limited_buffer / (s.code_blocks * (2.0 / 3))));
    return s.limited_buffer ? std::min(all, n_ref) : all;
}

// E_r of clause 5.4.2.1, of a transport block that is sent whole
int sent_bits_of(const shape& s, int r)
{
    const int unit = s.layers * s.bits_per_symbol;
    const double share = s.coded_bits / unit / double(s.code_blocks);
    const bool fewer = r <= s.code_blocks - s.coded_bits / unit % s.code_blocks - 1;
    return unit * static_cast<int>(fewer ? std::floor(share) : std::ceil(share));
}

const shape shapes[]{
    { 24, 264, 2, 0.1, 1, 0, 2, 1, 7 },
    { 288, 1000, 4, 0.3, 1, 0, 2, 1, 40 },
    { 3824, 5400, 6, 0.7, 1, 0, 1, 1, 176 },
    { 3824, 8000, 4, 0.5, 1, 0, 2, 1, 384 },
    { 8424, 16896, 4, 0.5, 1, 0, 1, 1, 384 },
    { 13320, 19008, 6, 0.7, 1, 0, 1, 2, 320 },
    { 13320, 19008, 6, 0.7, 1, 15000, 1, 2, 320 },
    { 13320, 60000, 6, 0.7, 1, 13320, 1, 2, 320 }, // fewer bits than the fillers' place
    { 38056, 320000, 2, 0.2, 1, 40000, 2, 10, 384 },
    { 73776, 111944, 8, 0.67, 1, 80000, 1, 9, 384 },
    { 237776, 288288, 8, 0.82, 2, 1277992, 1, 29, 384 },
};

} // namespace

BOOST_AUTO_TEST_CASE(codes_and_rate_matching_are_those_of_sionna)
{
    for (const auto& golden : sionna()["encoded"]) {
        const int graph = golden["base_graph"], k = golden["k"];
        const int columns = graph == 1 ? 22 : k > 640 ? 10 : k > 560 ? 9 : k > 192 ? 8 : 6;
        int size = 2;
        const auto exists = [](int z) {
            while (z % 2 == 0)
                z /= 2;
            return z <= 15;
        };
        while (size * columns < k || !exists(size))
            size++;
        const ldpc_code code(graph, size);
        const bits information = bits_of(golden["bits"], k);
        for (int rv = 0; rv < 4; rv++)
            BOOST_TEST(
                (rate_matched(code,
                              information,
                              rv,
                              golden["n"],
                              golden["bits_per_symbol"],
                              code.n() - 2 * size) == bits_of(golden["coded"][rv], golden["n"])));
    }
}

BOOST_DATA_TEST_CASE(coded_bits_are_those_of_the_standard,
                     boost::unit_test::data::make(shapes) * boost::unit_test::data::xrange(4),
                     s,
                     rv)
{
    const transport_block b(
        s.size, s.coded_bits, s.bits_per_symbol, s.code_rate, s.layers, s.limited_buffer);
    BOOST_TEST(b.code().base_graph() == s.base_graph);
    BOOST_TEST(b.code_blocks() == s.code_blocks);
    BOOST_TEST(b.code().lifting_size() == s.lifting_size);

    auto block = random_block(b);
    bits coded(s.coded_bits);
    b.encode(block.data(), rv, coded.data());

    const crc& check = s.size > 3824 ? crc24a : crc16;
    const size_t length = block.size();
    block.resize(length + check.bits() / 8);
    check.append(block.data(), length);
    const size_t share = block.size() / s.code_blocks;
    bits expected;
    for (int r = 0; r < s.code_blocks; r++) {
        std::vector<uint8_t> part(block.begin() + r * share, block.begin() + (r + 1) * share);
        if (s.code_blocks > 1) {
            part.resize(share + 3);
            crc24b.append(part.data(), share);
        }
        const bits f = rate_matched(b.code(),
                                    bits_of_bytes(part),
                                    rv,
                                    sent_bits_of(s, r),
                                    s.bits_per_symbol,
                                    buffer_of(s, b.code()));
        expected.insert(expected.end(), f.begin(), f.end());
    }
    BOOST_TEST((coded == expected));
}

BOOST_DATA_TEST_CASE(a_block_sent_is_a_block_received, boost::unit_test::data::make(shapes), s)
{
    const transport_block b(
        s.size, s.coded_bits, s.bits_per_symbol, s.code_rate, s.layers, s.limited_buffer);
    harq_buffers buffers;
    ldpc_decoder decoder;
    for (const bool zero : { false, true }) {
        const auto block = zero ? std::vector<uint8_t>(b.size() / 8) : random_block(b);
        bits coded(s.coded_bits);
        b.encode(block.data(), 0, coded.data());
        std::vector<float> llr(s.coded_bits);
        for (int i = 0; i < s.coded_bits; i++)
            llr[i] = coded[i] ? std::numeric_limits<float>::infinity() : -9.0f;
        std::vector<uint8_t> received(b.size() / 8);
        const auto result =
            b.decode(llr.data(), 0, { 1, 0 }, true, buffers, decoder, received.data());
        BOOST_TEST(result.crc_ok);
        BOOST_TEST(result.iterations < 8);
        BOOST_TEST(result.transmissions == 1);
        BOOST_TEST((received == block));
    }
}

// What is received at a redundancy version, and then at rv 0, adds up where the standard takes it
// from. Both together are decoded, and what repeats all of the buffer is by itself.
BOOST_DATA_TEST_CASE(all_redundancy_is_recovered,
                     boost::unit_test::data::make(shapes) * boost::unit_test::data::xrange(4),
                     s,
                     rv)
{
    const transport_block b(
        s.size, s.coded_bits, s.bits_per_symbol, s.code_rate, s.layers, s.limited_buffer);
    const int n_cb = buffer_of(s, b.code());
    const int block_bits = s.size + (s.size > 3824 ? 24 : 16);
    const int k_r = block_bits / s.code_blocks + (s.code_blocks > 1 ? 24 : 0);
    const auto block = random_block(b);
    std::vector<int> expected(s.code_blocks * n_cb); // eighths, positive for 0
    harq_buffers buffers;
    ldpc_decoder decoder;
    std::mt19937 random(rv);
    for (const bool new_data : { true, false }) {
        const int sent = new_data ? rv : 0;
        bits coded(s.coded_bits);
        b.encode(block.data(), sent, coded.data());
        std::vector<float> llr(s.coded_bits);
        for (int i = 0; i < s.coded_bits; i++)
            llr[i] = (coded[i] ? 1 : -1) * (16 + int(random() % 64)) / 8.0f;
        std::vector<uint8_t> received(block.size());
        const auto result =
            b.decode(llr.data(), sent, { 1, 0 }, new_data, buffers, decoder, received.data());

        auto next = llr.begin();
        for (int r = 0; r < s.code_blocks; r++)
            for (const int place :
                 sent_places(b.code(), k_r, sent, sent_bits_of(s, r), s.bits_per_symbol, n_cb)) {
                int& sum = expected[r * n_cb + place];
                sum = std::clamp(sum - static_cast<int>(8 * *next++), -127, 127);
            }
        const auto& found = buffers.of({ 1, 0 }, false, b.soft()).llr;
        BOOST_TEST((std::vector<int>(found.begin(), found.end()) == expected));
        if (!new_data || s.coded_bits / s.code_blocks >= n_cb) {
            BOOST_TEST(result.crc_ok);
            BOOST_TEST((received == block));
        }
    }
}

// Zeros have every CRC.
BOOST_AUTO_TEST_CASE(a_block_of_which_nothing_is_known_is_no_block_of_zeros)
{
    const transport_block b(8424, 16896, 4, 0.5);
    harq_buffers buffers;
    ldpc_decoder decoder;
    std::vector<uint8_t> received(b.size() / 8);
    std::vector<float> llr(b.coded_bits());
    BOOST_TEST(!b.decode(llr.data(), 0, { 1, 0 }, true, buffers, decoder, received.data()).crc_ok);
    // parity alone, as of rv 2 at a high rate
    const transport_block high(13320, 19008, 6, 0.7);
    const auto block = random_block(high);
    bits coded(high.coded_bits());
    high.encode(block.data(), 2, coded.data());
    llr.resize(coded.size());
    for (size_t i = 0; i < coded.size(); i++)
        llr[i] = coded[i] ? 9 : -9;
    received.resize(block.size());
    BOOST_TEST(
        !high.decode(llr.data(), 2, { 1, 0 }, true, buffers, decoder, received.data()).crc_ok);
}

BOOST_AUTO_TEST_CASE(what_is_no_block_is_refused)
{
    using invalid = std::invalid_argument;
    check_raises<invalid>([] { transport_block(16, 100, 2, 0.3); }, "24 to 2097152 bits");
    check_raises<invalid>([] { transport_block(25, 100, 2, 0.3); }, "got 25");
    check_raises<invalid>([] { transport_block(8432, 20000, 2, 0.5); }, "share in whole bytes");
    check_raises<invalid>([] { transport_block(24, 100, 3, 0.3); }, "bits per symbol");
    check_raises<invalid>([] { transport_block(24, 100, 2, 0.3, 5); }, "layers must be");
    check_raises<invalid>([] { transport_block(24, 101, 2, 0.3); }, "multiple of 2");
    check_raises<invalid>([] { transport_block(24, 0, 2, 0.3); }, "got 0");
    check_raises<invalid>([] { transport_block(24, 100, 2, 0.3, 1, -1); }, "limited buffer");
    check_raises<invalid>([] { transport_block(24, 100, 2, 0.3, 1, 23); }, "hold the block of 24");
    for (const int limit : { 1, 8, 13319 })
        check_raises<invalid>([&] { transport_block(13320, 19008, 6, 0.7, 1, limit); },
                              "hold the block of 13320 bits, got " + std::to_string(limit));
    check_raises<invalid>([] { transport_block(8424, 8448, 2, 0.9); }, "does not fit");
}

BOOST_AUTO_TEST_SUITE_END()
