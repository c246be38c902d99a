/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "ldpc_code.h"
#include "ldpc_lanes.h"

#include <functional>
#include <vector>

namespace gr::deeprx {

//! Kernels that this program has and this processor runs, best first.
std::vector<const ldpc_kernel*> ldpc_kernels();

/*!
 * \brief Layered belief propagation on 8-bit LLRs.
 *
 * LLRs and messages are eighths, -127 to 127, positive for 0; a bit's sum has 16 bits, because one
 * that saturates makes wrong news of its own messages. Checks add bits exactly (box-plus with a
 * table): min-sum, however scaled, is too far behind. Rows go from the last to the first, which
 * saves iterations: most at the end have one of the two columns that are never sent, those at the
 * start both. The last iteration leaves out the three rows it would begin with, and at its end has
 * three of the first four once more, which all information bits are in. Memory is kept from call to
 * call.
 */
class ldpc_decoder
{
public:
    static constexpr int iterations = 8;
    static constexpr float scale = 8; // of an LLR

    //! \param kernel default: the best for this processor
    explicit ldpc_decoder(const ldpc_kernel& kernel = best());
    static const ldpc_kernel& best();

    struct result {
        bool accepted;
        int iterations;
    };

    /*!
     * \param llr [code.n()]
     * \param n_fillers so many bits at the end of the first k are known to be 0, whatever their LLR
     * \param accept looks at the first k bits, one a byte, after each iteration; true: enough.
     * Zeros are what nothing decides, too, and have every CRC: they need sure parity bits besides.
     * \param bits [code.k()]
     */
    result decode(const ldpc_code& code,
                  const int8_t* llr,
                  int n_fillers,
                  int most_iterations,
                  const std::function<bool()>& accept,
                  uint8_t* bits);

private:
    struct alignas(64) lanes {
        int8_t of[ldpc_lanes];
    };
    struct column {
        int side;     // which of its two places has the sums
        int rotation; // bit of the first
    };
    struct row {
        int number;
        size_t messages; // place of the first
    };
    void start(const ldpc_code& code, const int8_t* llr, int n_fillers);
    void update(const ldpc_code& code, const row& r);
    void decide(const ldpc_code& code, uint8_t* bits) const;
    bool sure_of_zeros(const ldpc_code& code) const;
    size_t place(int column, int side) const { return (2 * column + side) * d_column_lanes; }
    int16_t* sums(int column, int side)
    {
        return reinterpret_cast<int16_t*>(&d_sums[place(column, side)]);
    }
    const int16_t* sums(int column) const
    {
        return reinterpret_cast<const int16_t*>(&d_sums[place(column, d_columns[column].side)]);
    }

    const ldpc_kernel& d_kernel;
    int d_column_lanes = 0;
    std::vector<lanes> d_sums, d_messages;
    std::vector<column> d_columns;
    std::vector<row> d_rows; // in use, last first
};

} // namespace gr::deeprx
