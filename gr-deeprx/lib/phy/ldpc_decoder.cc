/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ldpc_decoder.h"

#include "avx2_only.h"

#include <algorithm>

namespace gr::deeprx {

#if defined(__x86_64__)
extern const ldpc_kernel ldpc_avx512, ldpc_avx2;
#elif defined(__aarch64__)
extern const ldpc_kernel ldpc_neon;
#endif
extern const ldpc_kernel ldpc_any;

std::vector<const ldpc_kernel*> ldpc_kernels()
{
    std::vector<const ldpc_kernel*> kernels;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bw") && !avx2_only())
        kernels.push_back(&ldpc_avx512);
    if (__builtin_cpu_supports("avx2"))
        kernels.push_back(&ldpc_avx2);
#elif defined(__aarch64__)
    kernels.push_back(&ldpc_neon);
#endif
    kernels.push_back(&ldpc_any);
    return kernels;
}

ldpc_decoder::ldpc_decoder(const ldpc_kernel& kernel) : d_kernel(kernel) {}

const ldpc_kernel& ldpc_decoder::best()
{
    static const ldpc_kernel& kernel = *ldpc_kernels().front();
    return kernel;
}

void ldpc_decoder::start(const ldpc_code& code, const int8_t* llr, int n_fillers)
{
    constexpr int16_t known = 8191; // more than all messages of a bit
    const int z = code.lifting_size();
    const int vectors = (z + ldpc_lanes - 1) / ldpc_lanes;
    d_column_lanes = 2 * (vectors + 1);
    d_sums.resize(2 * code.n_columns() * d_column_lanes);
    d_columns.assign(code.n_columns(), { 0, 0 });
    for (int c = 0; c < code.n_columns(); c++) {
        int16_t* sum = sums(c, 0);
        std::copy_n(llr + c * z, z, sum);
        const int first_filler = std::max(0, code.k() - n_fillers - c * z);
        if (c < code.k_columns() && first_filler < z)
            std::fill(sum + first_filler, sum + z, known);
        for (int i = 0; i < ldpc_lanes; i++)
            sum[z + i] = sum[i];
    }

    // A row past the fourth tells nothing before its parity bits have come.
    const auto sent = [&](int c) {
        return std::any_of(llr + c * z, llr + (c + 1) * z, [](int8_t x) { return x != 0; });
    };
    constexpr int last_six[2][6]{ { 5, 4, 3, 2, 1, 0 }, { 4, 5, 1, 2, 0, 3 } }; // as trials found
    d_rows.clear();
    size_t edges = 0;
    for (int at = static_cast<int>(code.rows().size()) - 1; at >= 0; at--) {
        const int row = at < 6 ? last_six[code.base_graph() - 1][5 - at] : at;
        if (row < 4 || sent(code.k_columns() + row)) {
            d_rows.push_back(row);
            edges += code.rows()[row].size();
        }
    }
    // Messages to the two columns that are never sent start in a row with one of them.
    const auto begins = std::find_if(d_rows.begin(), d_rows.end(), [&](int row) {
        const auto& edges = code.rows()[row];
        return edges[0].column > 0 || edges[1].column > 1;
    });
    std::rotate(d_rows.begin(), begins, begins + 1);
    d_messages.assign(edges * vectors, {});
}

void ldpc_decoder::update(const std::vector<ldpc_code::edge>& row,
                          int lifting_size,
                          int8_t* messages)
{
    ldpc_edge edges[ldpc_most_edges];
    const int stride = (lifting_size + ldpc_lanes - 1) / ldpc_lanes * ldpc_lanes;
    for (size_t e = 0; e < row.size(); e++) {
        auto& [side, rotation] = d_columns[row[e].column];
        const int ahead = row[e].shift - rotation;
        edges[e] = { sums(row[e].column, side),
                     sums(row[e].column, 1 - side),
                     messages + e * stride,
                     ahead < 0 ? ahead + lifting_size : ahead };
        side = 1 - side;
        rotation = row[e].shift;
    }
    d_kernel.update_row(edges, static_cast<int>(row.size()), lifting_size);
}

void ldpc_decoder::decide(const ldpc_code& code, uint8_t* bits) const
{
    const int z = code.lifting_size();
    for (int c = 0; c < code.k_columns(); c++) {
        const int rotation = d_columns[c].rotation;
        const int16_t* sum = sums(c);
        uint8_t* to = bits + c * z;
        for (int i = 0; i < z - rotation; i++)
            to[rotation + i] = sum[i] < 0;
        for (int i = 0; i < rotation; i++)
            to[i] = sum[z - rotation + i] < 0;
    }
}

bool ldpc_decoder::sure_of_zeros(const ldpc_code& code) const
{
    for (const int row : d_rows)
        for (const auto& [column, shift] : code.rows()[row]) {
            const int16_t* sum = sums(column);
            if (std::any_of(sum, sum + code.lifting_size(), [](int16_t x) { return x <= 0; }))
                return false;
        }
    return true;
}

ldpc_decoder::result ldpc_decoder::decode(const ldpc_code& code,
                                          const int8_t* llr,
                                          int n_fillers,
                                          int most_iterations,
                                          const std::function<bool()>& accept,
                                          uint8_t* bits)
{
    start(code, llr, n_fillers);
    const size_t stride = (code.lifting_size() + ldpc_lanes - 1) / ldpc_lanes;
    for (int iteration = 1;; iteration++) {
        lanes* messages = d_messages.data();
        for (const int row : d_rows) {
            update(code.rows()[row], code.lifting_size(), messages->of);
            messages += code.rows()[row].size() * stride;
        }
        decide(code, bits);
        const bool accepted =
            accept() && (std::any_of(bits, bits + code.k(), [](uint8_t bit) { return bit; }) ||
                         sure_of_zeros(code));
        if (accepted || iteration == most_iterations)
            return { accepted, iteration };
    }
}

} // namespace gr::deeprx
