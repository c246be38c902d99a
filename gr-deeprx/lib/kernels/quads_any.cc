/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "every_processor.h"
#include "quad_loops.h"

namespace gr::deeprx {

extern const packed_kernel quads_any QUAD_KERNEL(every_processor);

} // namespace gr::deeprx
