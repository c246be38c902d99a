/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_code.h"

#include "base_graphs.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

namespace {

//! Table 5.3.2-1: sizes are a times a power of two, and a tells the set.
int set_index(int lifting_size)
{
    constexpr int sets[]{ 2, 3, 5, 7, 9, 11, 13, 15 };
    for (int set = 0; lifting_size <= 384 && set < 8; set++)
        for (int size = sets[set]; size <= lifting_size; size *= 2)
            if (size == lifting_size)
                return set;
    throw std::invalid_argument("expected a lifting size of TS 38.212 table 5.3.2-1, got " +
                                std::to_string(lifting_size));
}

template <size_t n>
std::vector<std::vector<ldpc_code::edge>> lift(const base_graph_entry (&graph)[n], int lifting_size)
{
    const int set = set_index(lifting_size);
    std::vector<std::vector<ldpc_code::edge>> rows(graph[n - 1].row + 1);
    for (const auto& entry : graph)
        rows[entry.row].push_back({ entry.column, entry.shifts[set] % lifting_size });
    return rows;
}

} // namespace

ldpc_code::ldpc_code(int base_graph, int lifting_size)
    : d_base_graph(base_graph), d_lifting_size(lifting_size)
{
    if (base_graph != 1 && base_graph != 2)
        throw std::invalid_argument("base graph must be 1 or 2, got " + std::to_string(base_graph));
    d_rows = base_graph == 1 ? lift(base_graph_1, lifting_size) : lift(base_graph_2, lifting_size);
}

void ldpc_code::add_column(uint8_t* sum, const uint8_t* bits, const edge& e) const
{
    const uint8_t* column = bits + e.column * d_lifting_size;
    const int rest = d_lifting_size - e.shift;
    for (int z = 0; z < rest; z++)
        sum[z] ^= column[z + e.shift];
    for (int z = rest; z < d_lifting_size; z++)
        sum[z] ^= column[z - rest];
}

void ldpc_code::encode(uint8_t* bits) const
{
    const int first = k_columns();
    std::fill(bits + k(), bits + n(), 0);

    // In the sum of the first four rows every parity column cancels but the first, of which one of
    // three entries is left.
    std::vector<uint8_t> sum(d_lifting_size);
    int shift = 0;
    for (int row = 0; row < 4; row++)
        for (const edge& e : d_rows[row]) {
            if (e.column < first)
                add_column(sum.data(), bits, e);
            else if (e.column == first)
                shift ^= e.shift;
        }
    uint8_t* parity = bits + first * d_lifting_size;
    std::rotate_copy(sum.begin(), sum.end() - shift, sum.end(), parity);

    // Each other row has one new parity column, not rotated; the fourth has none.
    for (int row = 0; row < static_cast<int>(d_rows.size()); row++) {
        if (row == 3)
            continue;
        parity = bits + (first + row + (row < 3)) * d_lifting_size;
        std::fill_n(sum.begin(), d_lifting_size, 0);
        for (const edge& e : d_rows[row])
            add_column(sum.data(), bits, e); // its new column is still zero
        std::copy(sum.begin(), sum.end(), parity);
    }
}

} // namespace gr::deeprx
