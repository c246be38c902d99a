/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstdint>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief An LDPC code of TS 38.212 clause 5.3.2: a base graph whose entries stand for rotated
 * identity matrices.
 */
class ldpc_code
{
public:
    //! Bit z of the row's checks has bit (z + shift) modulo the lifting size of this column.
    struct edge {
        int column, shift;
    };

    /*!
     * \param base_graph 1 or 2
     * \param lifting_size one of table 5.3.2-1, 2 to 384
     * \throws std::invalid_argument if there is no such code
     */
    ldpc_code(int base_graph, int lifting_size);

    int base_graph() const { return d_base_graph; }
    int lifting_size() const { return d_lifting_size; }
    const std::vector<std::vector<edge>>& rows() const { return d_rows; }

    //! Of the systematic bits, fillers included.
    int k_columns() const { return d_base_graph == 1 ? 22 : 10; }
    //! Of all bits, the first two included, which are never sent.
    int n_columns() const { return k_columns() + static_cast<int>(d_rows.size()); }
    int k() const { return k_columns() * d_lifting_size; }
    int n() const { return n_columns() * d_lifting_size; }

    //! Fills in the parity bits. \param bits one a byte [n], of which the first k are there
    void encode(uint8_t* bits) const;

private:
    void add_column(uint8_t* sum, const uint8_t* bits, const edge& e) const;

    const int d_base_graph;
    const int d_lifting_size;
    std::vector<std::vector<edge>> d_rows;
};

} // namespace gr::deeprx
