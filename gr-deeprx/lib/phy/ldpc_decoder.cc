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
    constexpr int last_six[2][6]{ { 5, 4, 3, 2, 1, 0 }, { 4, 5, 1, 0, 3, 2 } }; // as trials found
    d_rows.clear();
    size_t messages = 0;
    for (int at = static_cast<int>(code.rows().size()) - 1; at >= 0; at--) {
        const int row = at < 6 ? last_six[code.base_graph() - 1][5 - at] : at;
        if (row < 4 || sent(code.k_columns() + row)) {
            d_rows.push_back({ row, messages });
            messages += code.rows()[row].size() * vectors;
        }
    }
    // Messages to the two columns that are never sent start in a row with one of them.
    const auto begins = std::find_if(d_rows.begin(), d_rows.end(), [&](const row& r) {
        const auto& edges = code.rows()[r.number];
        return edges[0].column > 0 || edges[1].column > 1;
    });
    std::rotate(d_rows.begin(), begins, begins + 1);
    d_messages.assign(messages, {});
}

void ldpc_decoder::update(const ldpc_code& code, const row& r)
{
    ldpc_edge edges[ldpc_most_edges];
    const int lifting_size = code.lifting_size();
    const auto& columns = code.rows()[r.number];
    const int stride = (lifting_size + ldpc_lanes - 1) / ldpc_lanes * ldpc_lanes;
    int8_t* messages = d_messages[r.messages].of;
    for (size_t e = 0; e < columns.size(); e++) {
        const auto& [column, shift] = columns[e];
        auto& [side, rotation] = d_columns[column];
        const int ahead = shift - rotation;
        edges[e] = { sums(column, side),
                     sums(column, 1 - side),
                     messages + e * stride,
                     ahead < 0 ? ahead + lifting_size : ahead };
        side = 1 - side;
        rotation = shift;
    }
    d_kernel.update_row(edges, static_cast<int>(columns.size()), lifting_size);
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
    for (const row& r : d_rows)
        for (const auto& [column, shift] : code.rows()[r.number]) {
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
    constexpr size_t once_more = 3;
    const size_t n_rows = d_rows.size();
    for (int iteration = 1;; iteration++) {
        const bool last = iteration == most_iterations && n_rows >= 4 + once_more;
        const size_t first = last ? once_more : 0;
        for (size_t i = first; i < n_rows + first; i++)
            update(code, d_rows[i < n_rows ? i : i - 4]);
        decide(code, bits);
        const bool accepted =
            accept() && (std::any_of(bits, bits + code.k(), [](uint8_t bit) { return bit; }) ||
                         sure_of_zeros(code));
        if (accepted || iteration == most_iterations)
            return { accepted, iteration };
    }
}

} // namespace gr::deeprx
