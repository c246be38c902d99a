/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>
#include <gnuradio/sync_block.h>

namespace gr::deeprx {

/*!
 * \brief Samples of OFDM symbols by unitary_fft, from spectra with DC in the middle; both are
 * vectors of fft_size.
 *
 * fft_vcc does the same, but not to the last digit the same from run to run: see unitary_fft.
 */
class DEEPRX_API symbol_ifft : virtual public gr::sync_block
{
public:
    using sptr = std::shared_ptr<symbol_ifft>;

    //! \throws std::invalid_argument if the size is not even and positive
    static sptr make(int fft_size);
};

} // namespace gr::deeprx
