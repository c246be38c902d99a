/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "quad_loops.h"

namespace gr::deeprx {

extern const packed_kernel quads_avx2 QUAD_KERNEL("AVX2");

} // namespace gr::deeprx
