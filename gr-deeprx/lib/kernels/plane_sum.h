/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "planes.h"
#include "pusch_kernel.h"
#include "pusch_net.h"

#include <vector>

namespace gr::deeprx {

//! A convolution of planes, or of pairs of them, laid out for kernels at construction: terms whose
//! weights are 0 are left out.
class plane_sum
{
public:
    //! \param pitch of the planes that it takes \param stride of their rows
    plane_sum(const layer& l, int pitch, int stride, bool of_pairs = false);
    plane_sum(const plane_sum&) = delete;
    plane_sum(plane_sum&&) = default;

    //! What to do; where, how many positions and with which mask is still to say.
    sum_job job(const float* from, float* to, int to_pitch, int n, const int32_t* mask) const;

private:
    int d_inputs; // planes
    std::vector<std::vector<int>> d_offsets;
    std::vector<std::vector<float>> d_weights;
    std::vector<sum_tile> d_tiles;
};

} // namespace gr::deeprx
