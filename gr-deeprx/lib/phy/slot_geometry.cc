/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_geometry.h"
#include "gold_sequence.h"
#include "mcs.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace gr::deeprx {

namespace {

[[noreturn]] void refuse(const std::string& expected, const std::string& actual)
{
    throw std::invalid_argument(expected + ", got " + actual);
}

void expect_range(const char* name, int value, int low, int high)
{
    if (value < low || value > high)
        refuse(std::string(name) + " must be " + std::to_string(low) + " to " +
                   std::to_string(high),
               std::to_string(value));
}

void expect_one_of(const char* name, int value, const std::vector<int>& values)
{
    if (std::find(values.begin(), values.end(), value) != values.end())
        return;
    std::string list;
    for (const int known : values)
        list += (list.empty() ? "" : ", ") + std::to_string(known);
    refuse(std::string(name) + " must be one of " + list, std::to_string(value));
}

std::string in_brackets(const std::vector<int>& values)
{
    std::string list;
    for (const int value : values)
        list += (list.empty() ? "" : ", ") + std::to_string(value);
    return "[" + list + "]";
}

int bits_of(const std::string& modulation)
{
    static const std::map<std::string, int> bits{
        { "QPSK", 2 }, { "16QAM", 4 }, { "64QAM", 6 }, { "256QAM", 8 }
    };
    const auto entry = bits.find(modulation);
    if (entry == bits.end())
        refuse("modulation must be one of QPSK, 16QAM, 64QAM, 256QAM", "'" + modulation + "'");
    return entry->second;
}

void expect_dmrs(const slot_config& c)
{
    std::string known;
    for (const int l0 : { 2, 3 })
        for (int position = 0; position < 4; position++) {
            const auto symbols = dmrs_symbols(c.n_symbols, position, l0);
            if (!symbols.empty() && symbols == c.dmrs)
                return;
            const std::string list = in_brackets(symbols);
            if (!symbols.empty() && known.find(list) == std::string::npos)
                known += (known.empty() ? "" : ", ") + list;
        }
    refuse("dmrs of " + std::to_string(c.n_symbols) + " symbols must be one of " + known,
           in_brackets(c.dmrs));
}

void expect_users(const slot_config& c)
{
    std::vector<int> ports;
    for (const slot_user& user : c.users) {
        expect_range("rnti", user.rnti, 0, 65535);
        expect_range("n_id", user.n_id, 0, 1023);
        if (!(user.code_rate >= 0.0 && user.code_rate < 1.0))
            refuse("code_rate must be 0 (none) or more, and below 1",
                   std::to_string(user.code_rate));
        if (user.tbs)
            expect_range("tbs", user.tbs, 24, 1 << 21);
        ports.push_back(user.port);
    }
    using lists = std::vector<std::vector<int>>;
    const lists known = c.cdm_groups == 1 ? lists{ { 0 }, { 1 }, { 0, 1 } }
                                          : lists{ { 0 }, { 1 }, { 2 }, { 3 }, { 0, 1 }, { 0, 2 } };
    if (std::find(known.begin(), known.end(), ports) != known.end())
        return;
    std::string list;
    for (const auto& entry : known)
        list += (list.empty() ? "" : ", ") + in_brackets(entry);
    refuse("DMRS ports of one or two users with " + std::to_string(c.cdm_groups) +
               " CDM group(s) without data must be one of " + list,
           in_brackets(ports));
}

} // namespace

std::vector<int> dmrs_symbols(int n_symbols, int additional_position, int l0)
{
    if (additional_position == 3 && l0 == 3)
        return {};
    if (n_symbols < 8 || additional_position == 0)
        return { l0 };
    if (n_symbols < 10)
        return { l0, 7 };
    if (additional_position == 3 && n_symbols >= 12)
        return { l0, 5, 8, 11 };
    const int last = n_symbols < 13 ? 9 : 11;
    if (additional_position == 1)
        return { l0, last };
    return { l0, last == 9 ? 6 : 7, last };
}

slot_geometry::slot_geometry(const slot_config& config) : d_config(config)
{
    slot_config& c = d_config;
    expect_range("n_prb", c.n_prb, 1, 273);
    expect_range("first_prb", c.first_prb, 0, 274);
    const int end = c.first_prb + c.n_prb;
    if (c.carrier_prb == 0)
        c.carrier_prb = end;
    expect_range("carrier_prb", c.carrier_prb, 1, 275);
    if (end > c.carrier_prb)
        refuse("an allocation must end inside its carrier of " + std::to_string(c.carrier_prb) +
                   " PRB",
               "PRB " + std::to_string(c.first_prb) + " to " + std::to_string(end - 1));
    expect_range("n_symbols", c.n_symbols, 4, n_symbols);
    std::sort(c.dmrs.begin(), c.dmrs.end());
    expect_dmrs(c);
    expect_range("cdm_groups", c.cdm_groups, 1, 2);
    expect_range("dmrs_n_id", c.dmrs_n_id, 0, 65535);
    expect_range("n_scid", c.n_scid, 0, 1);
    for (const slot_user& user : c.users)
        d_bits.push_back(bits_of(user.modulation));
    expect_users(c);
    expect_range("limited_buffer", c.limited_buffer, 0, 1 << 21);
    for (int layer = 0; c.limited_buffer && layer < n_layers(); layer++)
        if (const int size = block_size(layer); size > c.limited_buffer)
            refuse("limited_buffer must be 0 (not limited) or hold the user's block of " +
                       std::to_string(size) + " bits",
                   std::to_string(c.limited_buffer));
    expect_one_of("scs_khz", c.scs_khz, { 15, 30, 60 });
    const int carriers = 12 * c.carrier_prb;
    if (c.fft_size == 0)
        for (c.fft_size = 128; c.fft_size * 85 < carriers * 100;)
            c.fft_size *= 2;
    if (c.fft_size % 128 || c.fft_size < carriers || c.fft_size > 8192)
        refuse("fft_size must be a multiple of 128 that holds " + std::to_string(carriers) +
                   " subcarriers, up to 8192",
               std::to_string(c.fft_size));
    const int slots_per_frame = c.scs_khz * 10 / 15;
    expect_range("slot_number", c.slot_number, -1, slots_per_frame - 1);

    d_data_mask.assign(n_re(), 1);
    for (const int symbol : c.dmrs)
        for (int k = 0; k < n_subcarriers(); k++)
            d_data_mask[symbol * n_subcarriers() + k] = c.cdm_groups == 1 && k % 2;

    if (c.slot_number >= 0)
        d_pilots.push_back(make_pilots(c.slot_number));
    else
        for (int slot = 0; slot < slots_per_frame; slot++)
            d_pilots.push_back(make_pilots(slot));
}

int slot_geometry::n_data_re() const
{
    const int of_dmrs = 6 * d_config.cdm_groups * static_cast<int>(d_config.dmrs.size());
    return n_re() - of_dmrs * d_config.n_prb;
}

int slot_geometry::block_size(int layer) const
{
    const slot_user& user = d_config.users[layer];
    if (user.code_rate == 0.0 || user.tbs)
        return user.tbs;
    return transport_block_size(n_prb(), n_data_re() / n_prb(), { d_bits[layer], user.code_rate });
}

int slot_geometry::first_bin() const
{
    return d_config.fft_size / 2 + 12 * d_config.first_prb - 6 * d_config.carrier_prb;
}

bool slot_geometry::is_dmrs(int symbol) const
{
    const auto& dmrs = d_config.dmrs;
    return std::find(dmrs.begin(), dmrs.end(), symbol) != dmrs.end();
}

const std::vector<float>& slot_geometry::pilots(uint64_t slot_index) const
{
    return d_pilots[slot_index % d_pilots.size()];
}

std::vector<float> slot_geometry::make_pilots(int slot_in_frame) const
{
    const slot_config& c = d_config;
    const int n_sc = n_subcarriers();
    const int first = 12 * c.first_prb; // the sequence is counted from the carrier's first PRB
    const float amplitude = static_cast<float>(std::sqrt(0.5 * c.cdm_groups));
    std::vector<float> grid(size_t(n_layers()) * n_re() * 2);
    for (const int symbol : c.dmrs) {
        const uint64_t c_init =
            (static_cast<uint64_t>((n_symbols * slot_in_frame + symbol + 1)) * (2 * c.dmrs_n_id + 1)
             << 17) +
            2 * c.dmrs_n_id + c.n_scid;
        const auto bits = gold_sequence(c_init & 0x7fffffff, first + n_sc);
        for (int layer = 0; layer < n_layers(); layer++) {
            const int port = c.users[layer].port;
            float* row = &grid[2 * (size_t(layer) * n_re() + symbol * n_sc + port / 2)];
            for (int i = 0; i < n_sc / 2; i++) { // QPSK of bits 2i and 2i + 1 on subcarrier 2i
                const float factor = port % 2 && i % 2 ? -amplitude : amplitude;
                row[4 * i] = bits[first + 2 * i] ? -factor : factor;
                row[4 * i + 1] = bits[first + 2 * i + 1] ? -factor : factor;
            }
        }
    }
    return grid;
}

} // namespace gr::deeprx
