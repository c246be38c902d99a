/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "gold_sequence.h"

namespace gr::deeprx {

//! Data scrambling of one identity, which is kept until another RNTI's is asked for.
class scrambler
{
public:
    //! \throws std::invalid_argument if the identity is out of range
    scrambler(int n_id, int length) : d_n_id(n_id), d_length(length) { of(0); }

    const std::vector<uint8_t>& of(int rnti)
    {
        if (rnti != d_rnti)
            d_sequence = data_scrambling(rnti, d_n_id, d_length);
        d_rnti = rnti;
        return d_sequence;
    }

private:
    const int d_n_id;
    const int d_length;
    int d_rnti = -1;
    std::vector<uint8_t> d_sequence;
};

} // namespace gr::deeprx
