/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "every_processor.h"
#include "pusch_loops.h"

namespace gr::deeprx {

extern const pusch_kernel pusch_any PUSCH_KERNEL(every_processor);

} // namespace gr::deeprx
