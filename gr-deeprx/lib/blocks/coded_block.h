/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "transport_block.h"

#include <gnuradio/deeprx/block_format.h>

namespace gr::deeprx {

//! \throws std::invalid_argument if there is no such block, or it does not fit
inline transport_block block_of(const block_format& format)
{
    return { format.size, format.coded_bits,    format.bits_per_symbol, format.code_rate,
             1,           format.limited_buffer };
}

} // namespace gr::deeprx
