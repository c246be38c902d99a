/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_windows.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

slot_windows::slot_windows(int fft_size, const std::vector<int>& cp_lengths, int offset_samples)
{
    const int earliest = -*std::min_element(cp_lengths.begin(), cp_lengths.end());
    if (offset_samples < earliest || offset_samples > fft_size)
        throw std::invalid_argument("offset_samples must be " + std::to_string(earliest) +
                                    " (the cyclic prefix) to " + std::to_string(fft_size) +
                                    ", got " + std::to_string(offset_samples));
    for (const int prefix : cp_lengths) {
        symbols.push_back(length);
        windows.push_back(length + prefix + offset_samples);
        length += prefix + fft_size;
    }
    lookahead = std::max(length, windows.back() + fft_size);
}

int slot_windows::symbol_of(int sample) const
{
    const auto next = std::upper_bound(symbols.begin(), symbols.end(), sample);
    return static_cast<int>(next - symbols.begin()) - 1;
}

} // namespace gr::deeprx
