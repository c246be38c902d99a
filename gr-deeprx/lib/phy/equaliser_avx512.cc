/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "equaliser_loops.h"

namespace gr::deeprx {

extern const equaliser_kernel equaliser_avx512{ "AVX-512", equalise, filter };

} // namespace gr::deeprx
