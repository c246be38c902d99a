/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief Where bits and pilots sit in a slot: 14 OFDM symbols, NR PUSCH DMRS type 1, one layer.
 *
 * Pilots of magnitude 1 on the even subcarriers of the DMRS symbols, data everywhere else.
 * \throws std::invalid_argument if a parameter is out of range
 */
class slot_geometry
{
public:
    static constexpr int n_symbols = 14;
    static constexpr int slots_per_frame = 10;

    slot_geometry(int n_prb,
                  const std::string& modulation,
                  const std::vector<int>& dmrs,
                  int cell_id,
                  int slot_number);

    int n_prb() const { return d_n_prb; }
    const std::string& modulation() const { return d_modulation; }
    const std::vector<int>& dmrs() const { return d_dmrs; }

    int n_subcarriers() const { return 12 * d_n_prb; }
    int bits_per_symbol() const { return d_bits_per_symbol; }
    int n_bits() const { return n_data_re() * d_bits_per_symbol; }
    int n_data_re() const;

    //! Smallest power of two that leaves 15 % of its bins as guard band.
    int fft_size() const;
    //! Index of subcarrier 0 in a symbol vector with DC in the middle.
    int first_bin() const { return fft_size() / 2 - 6 * d_n_prb; }

    bool is_dmrs(int symbol) const;

    //! Pilots of a slot, (re, im) float32 [14][n_subcarriers][2], zero where there is none
    //! (TS 38.211 clause 6.4.1.1, port 0, n_SCID 0).
    const std::vector<float>& pilots(uint64_t slot_index) const;

private:
    std::vector<float> make_pilots(int slot_in_frame) const;

    const int d_n_prb;
    const std::string d_modulation;
    std::vector<int> d_dmrs;
    const int d_cell_id;
    const int d_slot_number;
    int d_bits_per_symbol;
    std::vector<std::vector<float>> d_pilots; // by slot in the frame, or one for all
};

} // namespace gr::deeprx
