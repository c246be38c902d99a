/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_loops.h"

namespace gr::deeprx {

#if defined(__x86_64__)
#define NAME "SSE2"
#elif defined(__aarch64__)
#define NAME "NEON"
#else
#define NAME "any"
#endif

//! What every processor of this architecture has.
extern const pusch_kernel pusch_any PUSCH_KERNEL(NAME);

} // namespace gr::deeprx
