/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "transport_block.h"

#include "crc.h"
#include "mcs.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

namespace {

const crc& block_crc(int size) { return size > 3824 ? crc24a : crc16; }

int base_graph_of(int size, double code_rate)
{
    return size <= 292 || (size <= 3824 && code_rate <= 0.67) || code_rate <= 0.25 ? 2 : 1;
}

//! Clause 5.2.2
int code_blocks_of(int block_bits, int base_graph)
{
    const int most = base_graph == 1 ? 8448 : 3840;
    return block_bits <= most ? 1 : (block_bits + most - 25) / (most - 24);
}

int lifting_size_of(int base_graph, int block_bits, int code_bits)
{
    const int columns = base_graph == 1    ? 22
                        : block_bits > 640 ? 10
                        : block_bits > 560 ? 9
                        : block_bits > 192 ? 8
                                           : 6;
    int smallest = 384;
    for (const int odd : { 1, 3, 5, 7, 9, 11, 13, 15 }) {
        int size = odd == 1 ? 2 : odd;
        while (size * columns < code_bits)
            size *= 2;
        smallest = std::min(smallest, size);
    }
    return smallest;
}

//! Clause 5.4.2.1
int buffer_of(const ldpc_code& code, int limited_buffer, int code_blocks)
{
    const int all = code.n() - 2 * code.lifting_size();
    return limited_buffer ? static_cast<int>(std::min<int64_t>(
                                all, int64_t(limited_buffer) * 3 / (2 * code_blocks)))
                          : all;
}

constexpr int most_bits = 1 << 21; // of a block, and coded: more than four layers of 275 PRB hold

int checked_size(int size, double code_rate)
{
    expect_code_rate(code_rate);
    if (size < 24 || size % 8 || size > most_bits)
        throw std::invalid_argument("a transport block has 24 to 2097152 bits, in whole bytes; "
                                    "expected a size of TS 38.214 "
                                    "clause 5.1.3.2, got " +
                                    std::to_string(size));
    return size;
}

void unpack(const uint8_t* bytes, int n_bits, uint8_t* bits)
{
    for (int i = 0; i < n_bits; i++)
        bits[i] = bytes[i / 8] >> (7 - i % 8) & 1;
}

void pack(const uint8_t* bits, int n_bytes, uint8_t* bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        uint8_t byte = 0;
        for (int bit = 0; bit < 8; bit++)
            byte = byte << 1 | bits[8 * i + bit];
        bytes[i] = byte;
    }
}

// Loops that compilers turn into vector code.

//! LLRs log P(1)/P(0) as the decoder takes them. \return whether one is NaN
bool quantise(const float* __restrict llr, int n, int8_t* __restrict quantised)
{
    constexpr float whole = 3 << 22; // what is added to it is rounded
    int nan = 0;
    for (int i = 0; i < n; i++) {
        float scaled = -ldpc_decoder::scale * llr[i];
        nan |= scaled != scaled;
        scaled = scaled < 127.0f ? scaled : 127.0f;
        scaled = scaled > -127.0f ? scaled : -127.0f;
        quantised[i] = static_cast<int8_t>(static_cast<int>(scaled + whole - whole));
    }
    return nan;
}

void add(const int8_t* __restrict received, int n, int8_t* __restrict sum)
{
    for (int i = 0; i < n; i++)
        sum[i] = static_cast<int8_t>(std::min(127, std::max(-127, sum[i] + received[i])));
}

} // namespace

transport_block::transport_block(
    int size, int coded_bits, int bits_per_symbol, double code_rate, int layers, int limited_buffer)
    : d_size(checked_size(size, code_rate)), d_coded_bits(coded_bits),
      d_bits_per_symbol(bits_per_symbol), d_layers(layers),
      d_block_bits(size + block_crc(size).bits()), d_base_graph(base_graph_of(size, code_rate)),
      d_code_blocks(code_blocks_of(d_block_bits, d_base_graph)),
      d_code_bits(d_block_bits / d_code_blocks + (d_code_blocks > 1 ? 24 : 0)),
      d_code(d_base_graph, lifting_size_of(d_base_graph, d_block_bits, d_code_bits)),
      d_buffer(buffer_of(d_code, limited_buffer, d_code_blocks))
{
    const auto expect = [](bool good, const std::string& what, int found) {
        if (!good)
            throw std::invalid_argument(what + ", got " + std::to_string(found));
    };
    expect(d_block_bits % (8 * d_code_blocks) == 0,
           "expected a size of TS 38.214 clause 5.1.3.2, which " + std::to_string(d_code_blocks) +
               " code blocks share in whole bytes",
           size);
    expect(bits_per_symbol == 2 || bits_per_symbol == 4 || bits_per_symbol == 6 ||
               bits_per_symbol == 8,
           "bits per symbol must be 2, 4, 6 or 8",
           bits_per_symbol);
    expect(layers >= 1 && layers <= 4, "layers must be 1 to 4", layers);
    expect(limited_buffer == 0 || limited_buffer >= size,
           "the limited buffer must be 0 (not limited) or hold the block of " +
               std::to_string(size) + " bits",
           limited_buffer);
    expect(coded_bits > 0 && coded_bits <= most_bits &&
               coded_bits % (bits_per_symbol * layers) == 0,
           "coded bits must be 2097152 at most, and a multiple of " +
               std::to_string(bits_per_symbol * layers) + ", bits per symbol times layers",
           coded_bits);
    // 38.214 5.1.3: a UE may skip what is above 0.95
    expect(coded_bits > d_code_blocks * d_code_bits,
           "a block of " + std::to_string(size) + " bits does not fit: with its CRCs it has " +
               std::to_string(d_code_blocks * d_code_bits) + ", and needs more coded bits",
           coded_bits);
}

//! E_r of clause 5.4.2.1
int transport_block::sent_bits(int code_block) const
{
    const int unit = d_bits_per_symbol * d_layers;
    const int units = d_coded_bits / unit;
    return unit * ((units +
                    (code_block >= d_code_blocks - units % d_code_blocks ? d_code_blocks - 1 : 0)) /
                   d_code_blocks);
}

//! Where in the circular buffer the bits of a code block come from, in the order of clause 5.4.2.1.
//! A buffer that holds the block has bits beside the fillers: every turn of the loop takes some.
std::vector<transport_block::run> transport_block::runs(int rv, int length) const
{
    constexpr int starts[2][4]{ { 0, 17, 33, 56 }, { 0, 13, 25, 43 } };
    const int z = d_code.lifting_size();
    const int columns = d_code.n_columns() - 2;
    const int fillers = std::min(d_code_bits - 2 * z, d_buffer);
    const int after = std::min(d_code.k() - 2 * z, d_buffer);
    std::vector<run> runs;
    for (int at =
             static_cast<int>(int64_t(starts[d_base_graph - 1][rv]) * d_buffer / (columns * z)) * z;
         length > 0;) {
        if (at >= fillers && at < after)
            at = after;
        if (at == d_buffer)
            at = 0;
        const int end = at < fillers ? fillers : d_buffer;
        runs.push_back({ at, std::min(length, end - at) });
        length -= runs.back().length;
        at += runs.back().length;
    }
    return runs;
}

namespace {

void check_rv(int rv)
{
    if (rv < 0 || rv > 3)
        throw std::invalid_argument("rv must be 0 to 3, got " + std::to_string(rv));
}

} // namespace

void transport_block::encode(const uint8_t* block, int rv, uint8_t* coded) const
{
    check_rv(rv);
    std::vector<uint8_t> bytes(d_block_bits / 8);
    std::copy_n(block, d_size / 8, bytes.begin());
    block_crc(d_size).append(bytes.data(), d_size / 8);

    const int share = d_block_bits / 8 / d_code_blocks; // bytes of the block in a code block
    std::vector<uint8_t> code_block(share + 3), bits(d_code.n()), sent;
    for (int r = 0; r < d_code_blocks; r++) {
        std::copy_n(bytes.begin() + r * share, share, code_block.begin());
        if (d_code_blocks > 1)
            crc24b.append(code_block.data(), share);
        std::fill(bits.begin(), bits.end(), 0);
        unpack(code_block.data(), d_code_bits, bits.data());
        d_code.encode(bits.data());

        const int length = sent_bits(r), symbols = length / d_bits_per_symbol;
        sent.clear();
        const auto first = bits.begin() + 2 * d_code.lifting_size();
        for (const auto& [at, n] : runs(rv, length))
            sent.insert(sent.end(), first + at, first + at + n);
        for (int i = 0; i < d_bits_per_symbol; i++) // interleaved: clause 5.4.2.2
            for (int j = 0; j < symbols; j++)
                coded[i + j * d_bits_per_symbol] = sent[i * symbols + j];
        coded += length;
    }
}

transport_block::result transport_block::decode(const float* llr,
                                                int rv,
                                                const harq_process& process,
                                                bool new_data,
                                                harq_buffers& buffers,
                                                ldpc_decoder& decoder,
                                                uint8_t* block) const
{
    if (new_data)
        buffers.flush(process);
    check_rv(rv);
    std::vector<int8_t> sent(d_coded_bits);
    if (quantise(llr, d_coded_bits, sent.data())) {
        const float* nan =
            std::find_if(llr, llr + d_coded_bits, [](float x) { return std::isnan(x); });
        throw std::invalid_argument("expected LLRs, got NaN at bit " + std::to_string(nan - llr));
    }
    soft_buffer& soft = buffers.of(process, new_data, this->soft());

    const int share = d_block_bits / 8 / d_code_blocks;
    const crc& check = d_code_blocks > 1 ? crc24b : block_crc(d_size);
    std::vector<uint8_t> bytes(d_block_bits / 8), code_block(d_code_bits / 8), bits(d_code.k());
    const int8_t* next = sent.data();
    std::vector<int8_t> received, all(d_code.n());
    int iterations = 0;
    bool good = true;
    for (int r = 0; r < d_code_blocks; r++) {
        const int length = sent_bits(r), symbols = length / d_bits_per_symbol;
        received.resize(length);
        for (int i = 0; i < d_bits_per_symbol; i++)
            for (int j = 0; j < symbols; j++)
                received[i * symbols + j] = next[i + j * d_bits_per_symbol];
        next += length;
        int8_t* buffer = soft.llr.data() + size_t(r) * d_buffer;
        const int8_t* from = received.data();
        for (const auto& [at, n] : runs(rv, length)) {
            add(from, n, buffer + at);
            from += n;
        }

        std::copy_n(buffer, d_buffer, all.begin() + 2 * d_code.lifting_size());
        const auto accept = [&] {
            pack(bits.data(), d_code_bits / 8, code_block.data());
            return check.holds(code_block.data(), code_block.size());
        };
        const auto [accepted, took] = decoder.decode(d_code,
                                                     all.data(),
                                                     d_code.k() - d_code_bits,
                                                     ldpc_decoder::iterations,
                                                     accept,
                                                     bits.data());
        good &= accepted;
        iterations += took;
        std::copy_n(code_block.begin(), share, bytes.begin() + r * share);
    }
    good = good && block_crc(d_size).holds(bytes.data(), bytes.size());
    std::copy_n(bytes.begin(), d_size / 8, block);
    return { good, double(iterations) / d_code_blocks, soft.transmissions };
}

} // namespace gr::deeprx
