/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "quad_loops.h"

namespace gr::deeprx {

extern const packed_kernel quads_avx512 QUAD_KERNEL("AVX-512 VNNI");

} // namespace gr::deeprx
