/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_loops.h"

namespace gr::deeprx {

extern const pusch_kernel pusch_avx512 PUSCH_KERNEL("AVX-512");

} // namespace gr::deeprx
