/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_loops.h"

namespace gr::deeprx {

extern const pusch_kernel pusch_avx2 PUSCH_KERNEL("AVX2");

} // namespace gr::deeprx
