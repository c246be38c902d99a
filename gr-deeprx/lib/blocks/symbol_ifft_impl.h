/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "guarded.h"

#include <gnuradio/deeprx/symbol_ifft.h>
#include <gnuradio/deeprx/unitary_fft.h>

namespace gr::deeprx {

class symbol_ifft_impl : public guarded<symbol_ifft>
{
public:
    explicit symbol_ifft_impl(int fft_size);

    int work(int noutput_items,
             gr_vector_const_void_star& input_items,
             gr_vector_void_star& output_items) override;

private:
    unitary_fft d_ifft;
};

} // namespace gr::deeprx
