/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "symbol_ifft_impl.h"

#include <gnuradio/io_signature.h>

namespace gr::deeprx {

symbol_ifft::sptr symbol_ifft::make(int fft_size)
{
    return gnuradio::make_block_sptr<symbol_ifft_impl>(fft_size);
}

symbol_ifft_impl::symbol_ifft_impl(int fft_size)
    : gr::sync_block("Symbol IFFT",
                     gr::io_signature::make(1, 1, fft_size * sizeof(gr_complex)),
                     gr::io_signature::make(1, 1, fft_size * sizeof(gr_complex))),
      d_ifft(fft_size, true)
{
}

int symbol_ifft_impl::work(int noutput_items,
                           gr_vector_const_void_star& input_items,
                           gr_vector_void_star& output_items)
{
    const auto* in = static_cast<const gr_complex*>(input_items[0]);
    auto* out = static_cast<gr_complex*>(output_items[0]);
    for (int symbol = 0; symbol < noutput_items; symbol++)
        d_ifft(in + symbol * d_ifft.size(), out + symbol * d_ifft.size());
    return noutput_items;
}

} // namespace gr::deeprx
