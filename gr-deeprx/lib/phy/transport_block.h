/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "harq_buffers.h"
#include "ldpc_code.h"
#include "ldpc_decoder.h"

#include <cstdint>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief A transport block and its coded bits: TS 38.212 clauses 6.2.1 to 6.2.6 (uplink shared
 * channel) with 5.1 to 5.4.
 *
 * Bits of the block in whole bytes, most significant first. Coded bits one a byte, before
 * scrambling.
 */
class transport_block
{
public:
    /*!
     * \param size bits, without CRC, as transport_block_size() gives them
     * \param coded_bits that the slot has for it
     * \param bits_per_symbol 2, 4, 6 or 8
     * \param code_rate the target of its first transmission, which chooses the base graph
     * \param limited_buffer bits of the largest block for which buffers were made (TBS_LBRM of
     * clause 5.4.2.1), so no less than size; 0: they are not limited
     * \throws std::invalid_argument if there is no such block, or it does not fit
     */
    transport_block(int size,
                    int coded_bits,
                    int bits_per_symbol,
                    double code_rate,
                    int layers = 1,
                    int limited_buffer = 0);

    int size() const { return d_size; }
    int coded_bits() const { return d_coded_bits; }
    int code_blocks() const { return d_code_blocks; }
    const ldpc_code& code() const { return d_code; }
    //! What transmissions of it have in common.
    soft_block soft() const { return { d_size, d_base_graph, size_t(d_code_blocks) * d_buffer }; }

    //! \param block [size / 8] \param rv 0 to 3 \param coded [coded_bits]
    void encode(const uint8_t* block, int rv, uint8_t* coded) const;

    struct result {
        bool crc_ok;
        double iterations; // mean over code blocks
        int transmissions; // that were combined
    };

    /*!
     * \brief Adds what was received to the process's earlier transmissions, and decodes it.
     * \param llr [coded_bits], log P(1)/P(0), descrambled
     * \param block [size / 8] the decoder's best guess where the CRC fails
     * \throws std::invalid_argument if rv is none, an LLR is NaN, or what is no new data has no
     * earlier transmission or one of another block; then of new data the process has nothing, and
     * else what it had
     */
    result decode(const float* llr,
                  int rv,
                  const harq_process& process,
                  bool new_data,
                  harq_buffers& buffers,
                  ldpc_decoder& decoder,
                  uint8_t* block) const;

private:
    struct run {
        int at, length;
    };
    std::vector<run> runs(int rv, int length) const;
    int sent_bits(int code_block) const;

    const int d_size;
    const int d_coded_bits;
    const int d_bits_per_symbol;
    const int d_layers;
    const int d_block_bits; // with the block's CRC
    const int d_base_graph;
    const int d_code_blocks;
    const int d_code_bits; // of a code block with its CRC, without fillers
    const ldpc_code d_code;
    const int d_buffer; // bits of a code block's circular buffer, fillers included
};

} // namespace gr::deeprx
