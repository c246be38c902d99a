/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "equaliser_loops.h"
#include "every_processor.h"

namespace gr::deeprx {

extern const equaliser_kernel equaliser_any{ every_processor, equalise, filter };

} // namespace gr::deeprx
