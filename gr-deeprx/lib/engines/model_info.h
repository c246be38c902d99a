/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "slot_geometry.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gr::deeprx {

class model_archive;

/*!
 * \brief What a model file says about itself in deeprx.json (contract "deeprx.model/2"): the part
 * that decides whether a receiver can use it.
 */
struct model_info {
    std::string name;
    std::string precision;                 // of its convolutions: "float32", "bfloat16", "int8"
    std::vector<std::string> requirements; // "cuda"; of a CPU: "bfloat16" or "int8" (instructions
                                           // made for it) or a flag as /proc/cpuinfo spells it
    std::string quantized_engine;          // empty: none
    std::vector<int> n_layers;
    std::vector<int> n_rx;
    std::vector<int> n_prb; // the fewest, the most
    int prb_multiple_of;
    std::vector<int> scs_khz;
    std::vector<int> n_symbols;
    std::vector<std::vector<int>> dmrs; // empty: any
    std::vector<int> n_dmrs;
    std::vector<int> cdm_groups; // without data
    std::vector<std::string> modulations;
    int bits;
    double flop_per_prb; // of one slot at flop_n_rx antennas; 0: unknown
    int flop_n_rx;
    std::string trained; // ranges, in the field's terms; empty: the file names none
    std::string sha256;  // of the whole file

    //! FLOP of one slot, which grow with the PRBs; 0 where other antennas were counted, or none.
    uint64_t flop_per_slot(int n_prb, int n_rx) const
    {
        return n_rx == flop_n_rx ? static_cast<uint64_t>(flop_per_prb * n_prb + 0.5) : 0;
    }
};

/*!
 * \brief Reads deeprx.json.
 * \throws std::runtime_error one line: what was expected and what was found
 */
model_info parse_model_info(const std::string& json);

/*!
 * \brief Checks that a model can receive these slots on this machine.
 * \throws std::runtime_error one line: what was expected and what was found
 */
void check_model_fits(const model_info& info, const slot_geometry& slot, int n_rx, bool on_cuda);

/*!
 * \brief Reads what a model says about itself, if it says that it takes these slots.
 * \throws std::runtime_error one line: what was expected and what was found
 */
model_info
stated_info(const model_archive& archive, const slot_geometry& slot, int n_rx, bool on_cuda);

} // namespace gr::deeprx
