/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <string>
#include <vector>

namespace gr::deeprx {

//! Who sends a layer of a slot, and what it carries.
struct slot_user {
    std::string modulation = "16QAM"; // QPSK, 16QAM, 64QAM or 256QAM
    double code_rate = 0.0;           // target; 0: bits, no transport block
    int tbs = 0;                      // bits of the transport block; 0: of TS 38.214 6.1.4.2
    int rnti = 1;                     // of the data's scrambling, 0 to 65535
    int n_id = 1;                     // likewise, 0 to 1023
    int port = 0;                     // of the DMRS, 0 to 3
};

/*!
 * \brief A PUSCH slot as TS 38.211 describes it: mapping type A, DMRS type 1; what both ends of a
 * link must agree on.
 *
 * deeprx_common.slot.SlotConfig in C++, as far as symbols go: cyclic prefixes are the front ends'.
 */
struct slot_config {
    int n_prb = 26;                     // of the allocation, 1 to 273
    int first_prb = 0;                  // of the allocation in its carrier
    int n_symbols = 14;                 // of the allocation, 4 to 14, from the slot's first on
    std::vector<int> dmrs{ 2, 11 };     // symbols of TS 38.211 table 6.4.1.1.3-3
    int cdm_groups = 1;                 // without data, 1 or 2
    int dmrs_n_id = 1;                  // of the pilots' scrambling, 0 to 65535
    int n_scid = 0;                     // likewise, 0 or 1
    std::vector<slot_user> users{ {} }; // one, or two on ports 0 and 1, or 0 and 2
    int limited_buffer = 0; // TBS_LBRM of TS 38.212 clause 5.4.2.1 in bits, which hold every user's
                            // block; 0: not limited
    int carrier_prb = 0;    // 0: the carrier ends with the allocation
    int scs_khz = 15;       // 15, 30 or 60
    int fft_size = 0;       // 0: the smallest power of two with 15 % of guard band
    int slot_number = 0;    // in the frame; -1 counts slot_index through it
};

} // namespace gr::deeprx
