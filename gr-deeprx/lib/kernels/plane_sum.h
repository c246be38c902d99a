/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "planes.h"
#include "pusch_kernel.h"
#include "pusch_net.h"

#include <vector>

namespace gr::deeprx {

/*!
 * \brief A convolution of planes, or of packed ones, laid out for kernels at construction: terms
 * whose weights are 0 are left out.
 *
 * In quads an output's largest weight is 127 steps. Behind its bias are a step, and -128 times the
 * sum of its weights, an int32: what comes too much where 128 is added to all that is multiplied.
 */
class plane_sum
{
public:
    //! \param pitch of the planes that it takes \param stride of their rows
    //! \param together planes in one of them: 1, 2 or 4
    plane_sum(const layer& l, int pitch, int stride, int together = 1);
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
