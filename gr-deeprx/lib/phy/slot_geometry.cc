/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_geometry.h"
#include "gold_sequence.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace gr::deeprx {

namespace {

void expect_range(const char* name, int value, int low, int high)
{
    if (value < low || value > high)
        throw std::invalid_argument(std::string(name) + " must be " + std::to_string(low) + " to " +
                                    std::to_string(high) + ", got " + std::to_string(value));
}

int bits_of(const std::string& modulation)
{
    static const std::map<std::string, int> bits{
        { "QPSK", 2 }, { "16QAM", 4 }, { "64QAM", 6 }, { "256QAM", 8 }
    };
    const auto entry = bits.find(modulation);
    if (entry == bits.end())
        throw std::invalid_argument("modulation must be one of QPSK, 16QAM, 64QAM, 256QAM, got '" +
                                    modulation + "'");
    return entry->second;
}

} // namespace

slot_geometry::slot_geometry(int n_prb,
                             const std::string& modulation,
                             const std::vector<int>& dmrs,
                             int cell_id,
                             int slot_number)
    : d_n_prb(n_prb), d_modulation(modulation), d_dmrs(dmrs), d_cell_id(cell_id),
      d_slot_number(slot_number), d_bits_per_symbol(bits_of(modulation))
{
    expect_range("n_prb", n_prb, 6, 273);
    expect_range("cell_id", cell_id, 0, 65535);
    expect_range("slot_number", slot_number, -1, slots_per_frame - 1);
    std::sort(d_dmrs.begin(), d_dmrs.end());
    if (d_dmrs.empty() || d_dmrs.size() > 2 || d_dmrs.front() < 0 || d_dmrs.back() >= n_symbols ||
        std::adjacent_find(d_dmrs.begin(), d_dmrs.end()) != d_dmrs.end()) {
        std::string list;
        for (const int symbol : dmrs)
            list += (list.empty() ? "" : ", ") + std::to_string(symbol);
        throw std::invalid_argument("dmrs must name 1 or 2 different symbols of 0 to 13, got [" +
                                    list + "]");
    }

    if (slot_number >= 0)
        d_pilots.push_back(make_pilots(slot_number));
    else
        for (int slot = 0; slot < slots_per_frame; slot++)
            d_pilots.push_back(make_pilots(slot));
}

int slot_geometry::n_data_re() const
{
    return n_symbols * n_subcarriers() - static_cast<int>(d_dmrs.size()) * n_subcarriers() / 2;
}

int slot_geometry::fft_size() const
{
    int size = 1;
    while (size * 85 < n_subcarriers() * 100)
        size *= 2;
    return size;
}

bool slot_geometry::is_dmrs(int symbol) const
{
    return std::find(d_dmrs.begin(), d_dmrs.end(), symbol) != d_dmrs.end();
}

const std::vector<float>& slot_geometry::pilots(uint64_t slot_index) const
{
    return d_pilots[slot_index % d_pilots.size()];
}

std::vector<float> slot_geometry::make_pilots(int slot_in_frame) const
{
    const int n_sc = n_subcarriers();
    const float amplitude = static_cast<float>(M_SQRT1_2);
    std::vector<float> grid(n_symbols * n_sc * 2);
    for (const int symbol : d_dmrs) {
        const uint64_t c_init =
            (static_cast<uint64_t>((n_symbols * slot_in_frame + symbol + 1) * (2 * d_cell_id + 1))
             << 17) +
            2 * d_cell_id;
        const auto c = gold_sequence(c_init & 0x7fffffff, n_sc);
        float* row = &grid[symbol * n_sc * 2];
        for (int i = 0; i < n_sc / 2; i++) { // pilot i on subcarrier 2i, QPSK of bits 2i and 2i+1
            row[4 * i] = c[2 * i] ? -amplitude : amplitude;
            row[4 * i + 1] = c[2 * i + 1] ? -amplitude : amplitude;
        }
    }
    return grid;
}

} // namespace gr::deeprx
