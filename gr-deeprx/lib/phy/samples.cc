/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "samples.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

// GNU Radio is built for every x86-64; this one hot loop is chosen at run time.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_THREAD__) // its own choice comes before its runtime does
#define DEEPRX_ANY_X86 __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define DEEPRX_ANY_X86
#endif

namespace gr::deeprx {

DEEPRX_ANY_X86 float copy_scaled(const float* from, int n, float factor, float* to)
{
    uint32_t largest = 0; // as bits: NaN and infinity are above all others
    for (int i = 0; i < n; i++) {
        const float value = from[i] * factor;
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        largest = std::max(largest, bits & 0x7fffffff);
        to[i] = value;
    }
    float magnitude;
    std::memcpy(&magnitude, &largest, sizeof(magnitude));
    return magnitude;
}

float to_unit_power(float peak)
{
    int exponent = 0;
    std::frexp(peak / 3.0f, &exponent);
    return std::ldexp(1.0f, std::clamp(1 - exponent, -126, 127));
}

float copy_grid(const slot_geometry& slot,
                const std::vector<const void*>& streams,
                int first,
                float* grid)
{
    const int n_floats = 2 * slot.n_subcarriers();
    const size_t stride = 2 * slot.fft_size();
    const size_t start = first * stride + 2 * slot.first_bin();
    float* const to = grid;
    bool finite = true;
    float peak = 0.0f;
    for (const void* stream : streams) {
        const float* from = static_cast<const float*>(stream) + start;
        for (int symbol = 0; symbol < slot.symbols(); symbol++) {
            const float largest = copy_scaled(from, n_floats, 1.0f, grid);
            finite &= std::isfinite(largest);
            peak = std::max(peak, largest);
            from += stride;
            grid += n_floats;
        }
    }
    if (!finite)
        return 0.0f;
    const float factor = to_unit_power(peak);
    if (factor != 1.0f)
        copy_scaled(to, static_cast<int>(grid - to), factor, to);
    return factor;
}

void copy_pilots(const slot_geometry& slot, uint64_t slot_index, float* pilots)
{
    const int n_floats = 2 * slot.n_subcarriers();
    const auto& from = slot.pilots(slot_index); // copied whole they would flush the caches
    for (int layer = 0; layer < slot.n_layers(); layer++)
        for (const int symbol : slot.dmrs()) {
            const size_t at = size_t(layer * slot.symbols() + symbol) * n_floats;
            std::copy_n(&from[at], n_floats, pilots + at);
        }
}

bool copy_llrs(
    const slot_geometry& slot, int layer, const float* llr, int stride, float sign, float* out)
{
    const int n_sc = slot.n_subcarriers();
    const int bits = slot.bits_per_symbol(layer);
    bool finite = true;
    for (int symbol = 0; symbol < slot.symbols(); symbol++, llr += n_sc * stride) {
        const float* from = llr;
        const bool dmrs = slot.is_dmrs(symbol);
        if (dmrs && slot.config().cdm_groups == 2)
            continue;
        const int n = (dmrs ? n_sc / 2 : n_sc) * bits;
        if (dmrs || stride != bits) {
            from = out;
            for (int k = dmrs ? 1 : 0, i = 0; i < n; k += dmrs ? 2 : 1, i += bits)
                std::copy_n(llr + k * stride, bits, out + i);
        }
        finite &= std::isfinite(copy_scaled(from, n, sign, out));
        out += n;
    }
    return finite;
}

} // namespace gr::deeprx
