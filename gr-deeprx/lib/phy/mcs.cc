/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "mcs.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace gr::deeprx {

namespace {

struct rates {
    int bits_per_symbol;
    std::vector<double> times_1024;
};

const std::vector<rates> tables[]{
    { { 2, { 120, 157, 193, 251, 308, 379, 449, 526, 602, 679 } },
      { 4, { 340, 378, 434, 490, 553, 616, 658 } },
      { 6, { 438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948 } } },
    { { 2, { 120, 193, 308, 449, 602 } },
      { 4, { 378, 434, 490, 553, 616, 658 } },
      { 6, { 466, 517, 567, 616, 666, 719, 772, 822, 873 } },
      { 8, { 682.5, 711, 754, 797, 841, 885, 916.5, 948 } } },
    { { 2, { 30, 40, 50, 64, 78, 99, 120, 157, 193, 251, 308, 379, 449, 526, 602 } },
      { 4, { 340, 378, 434, 490, 553, 616 } },
      { 6, { 438, 466, 517, 567, 616, 666, 719, 772 } } },
};

// Table 5.1.3.2-1
const int small_sizes[]{ 24,   32,   40,   48,   56,   64,   72,   80,   88,   96,   104,  112,
                         120,  128,  136,  144,  152,  160,  168,  176,  184,  192,  208,  224,
                         240,  256,  272,  288,  304,  320,  336,  352,  368,  384,  408,  432,
                         456,  480,  504,  528,  552,  576,  608,  640,  672,  704,  736,  768,
                         808,  848,  888,  928,  984,  1032, 1064, 1128, 1160, 1192, 1224, 1256,
                         1288, 1320, 1352, 1416, 1480, 1544, 1608, 1672, 1736, 1800, 1864, 1928,
                         2024, 2088, 2152, 2216, 2280, 2408, 2472, 2536, 2600, 2664, 2728, 2792,
                         2856, 2976, 3104, 3240, 3368, 3496, 3624, 3752, 3824 };

void expect_up_to(int most, const char* name, int value)
{
    if (value < 1 || value > most)
        throw std::invalid_argument(std::string(name) + " must be 1 to " + std::to_string(most) +
                                    ", got " + std::to_string(value));
}

} // namespace

void expect_code_rate(double code_rate)
{
    if (!(code_rate > 0 && code_rate < 1))
        throw std::invalid_argument("code rate must be above 0 and below 1, got " +
                                    std::to_string(code_rate));
}

mcs mcs_of(int table, int index)
{
    if (table < 1 || table > 3)
        throw std::invalid_argument("MCS table must be 1, 2 or 3, got " + std::to_string(table));
    int left = index;
    for (const auto& [bits_per_symbol, times_1024] : tables[table - 1]) {
        if (left >= 0 && left < static_cast<int>(times_1024.size()))
            return { bits_per_symbol, times_1024[left] / 1024 };
        left -= static_cast<int>(times_1024.size());
    }
    throw std::invalid_argument("MCS index of table " + std::to_string(table) + " must be 0 to " +
                                std::to_string(index - left - 1) + ", got " +
                                std::to_string(index));
}

int transport_block_size(int n_prb, int data_re, const mcs& m, int layers)
{
    expect_up_to(275, "number of PRBs", n_prb);
    expect_up_to(168, "number of data REs in a PRB", data_re);
    expect_up_to(8, "bits per symbol", m.bits_per_symbol);
    expect_up_to(4, "number of layers", layers);
    expect_code_rate(m.code_rate);
    const double information =
        double(n_prb) * std::min(data_re, 156) * m.code_rate * m.bits_per_symbol * layers;
    if (information <= 3824) {
        const double step = std::exp2(std::max(3, std::ilogb(information) - 6));
        const double size = std::max(24.0, step * std::floor(information / step));
        return *std::lower_bound(std::begin(small_sizes), std::end(small_sizes), size);
    }
    const double step = std::exp2(std::ilogb(information - 24) - 5);
    const int size = std::max(3840.0, step * std::round((information - 24) / step));
    const int most = m.code_rate <= 0.25 ? 3816 : 8424; // bits of a code block, without CRC
    const int blocks = m.code_rate <= 0.25 || size > most ? (size + 24 + most - 1) / most : 1;
    return 8 * blocks * ((size + 24 + 8 * blocks - 1) / (8 * blocks)) - 24;
}

} // namespace gr::deeprx
