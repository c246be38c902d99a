/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

namespace gr::deeprx {

struct mcs {
    int bits_per_symbol;
    double code_rate; // target
};

/*!
 * \brief Of TS 38.214 tables 5.1.3.1-1 (64QAM), -2 (256QAM) and -3 (64QAM, low spectral
 * efficiency), which hold for PUSCH without transform precoding (clause 6.1.4.1).
 * \param table 1, 2 or 3
 * \throws std::invalid_argument if there is no such table, or the index is reserved
 */
mcs mcs_of(int table, int index);

//! \throws std::invalid_argument unless it is above 0 and below 1
void expect_code_rate(double code_rate);

/*!
 * \brief Bits of a transport block (TS 38.214 clauses 5.1.3.2 and 6.1.4.2).
 * \param data_re REs of the allocation in one PRB, without DMRS and overhead; above 156 counts as
 * 156
 * \throws std::invalid_argument if a number is out of range
 */
int transport_block_size(int n_prb, int data_re, const mcs& m, int layers = 1);

} // namespace gr::deeprx
