/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

namespace gr::deeprx {

//! The transport blocks of one user's slots, and their coded bits.
struct block_format {
    int size;               //!< bits of a block, without CRC (TS 38.214 clause 6.1.4.2)
    int coded_bits;         //!< that a slot has for it
    int bits_per_symbol;    //!< 2, 4, 6 or 8
    double code_rate;       //!< target of its first transmission, which chooses the base graph
    int rnti = 1;           //!< 0 to 65535, where a block does not come with another
    int n_id = 1;           //!< scrambling identity, 0 to 1023 (TS 38.211 clause 6.3.1.1)
    int limited_buffer = 0; //!< TBS_LBRM of TS 38.212 clause 5.4.2.1; 0: not limited
};

} // namespace gr::deeprx
