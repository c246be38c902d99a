/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/slot_config.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief The symbols of single-symbol DMRS with mapping type A (TS 38.211 table 6.4.1.1.3-3).
 * \param n_symbols of the allocation, 4 to 14
 * \param additional_position 0 to 3 \param l0 2 or 3
 * \return empty where there are none: additional position 3 with l0 = 3
 */
std::vector<int> dmrs_symbols(int n_symbols, int additional_position, int l0 = 2);

/*!
 * \brief Where bits and pilots of a slot sit.
 * \throws std::invalid_argument if a parameter is out of range, or does not fit the others
 */
class slot_geometry
{
public:
    static constexpr int n_symbols = 14; // of a slot

    explicit slot_geometry(const slot_config& config);
    //! As given, but for carrier and FFT size, which are known here.
    const slot_config& config() const { return d_config; }

    int n_prb() const { return d_config.n_prb; }
    //! Of the allocation: the slot's later ones are empty.
    int symbols() const { return d_config.n_symbols; }
    int n_subcarriers() const { return 12 * d_config.n_prb; }
    //! Resource elements of the allocation, pilots included.
    int n_re() const { return symbols() * n_subcarriers(); }

    int n_layers() const { return static_cast<int>(d_config.users.size()); }
    const std::string& modulation(int layer = 0) const { return d_config.users[layer].modulation; }
    int bits_per_symbol(int layer = 0) const { return d_bits[layer]; }
    //! Of each layer.
    const std::vector<int>& bits() const { return d_bits; }
    //! Bits of a layer.
    int n_bits(int layer = 0) const { return n_data_re() * d_bits[layer]; }
    //! Of a layer.
    int n_data_re() const;
    //! Bits of a layer's transport block, 0 where it carries bits alone.
    int block_size(int layer = 0) const;

    int fft_size() const { return d_config.fft_size; }
    //! Index of subcarrier 0 in a symbol vector with DC in the middle.
    int first_bin() const;

    const std::vector<int>& dmrs() const { return d_config.dmrs; }
    bool is_dmrs(int symbol) const;
    //! [symbols][n_subcarriers], 1 where data sits.
    const std::vector<uint8_t>& data_mask() const { return d_data_mask; }

    //! (re, im) float32 [n_layers][symbols][n_subcarriers][2] of a slot, zero where there is none
    //! (TS 38.211 clause 6.4.1.1).
    const std::vector<float>& pilots(uint64_t slot_index) const;

private:
    std::vector<float> make_pilots(int slot_in_frame) const;

    slot_config d_config;
    std::vector<int> d_bits; // by layer
    std::vector<uint8_t> d_data_mask;
    std::vector<std::vector<float>> d_pilots; // by slot in the frame, or one for all
};

} // namespace gr::deeprx
