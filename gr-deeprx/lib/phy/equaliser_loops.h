/* SPDX-License-Identifier: GPL-3.0-or-later */

// The loops themselves, for each processor's compiler options: all run over lanes, in the innermost
// loop, and are left to the compiler. This and what includes it use no library: a function compiled
// for one processor must not be what the linker takes for all.

#pragma once

#include "equaliser_kernel.h"

namespace gr::deeprx { namespace {

constexpr int lanes = equaliser_lanes;

struct plane {
    alignas(64) float re[lanes], im[lanes];
};

inline float larger(float a, float b) { return a > b ? a : b; }
inline float smaller(float a, float b) { return a < b ? a : b; }

//! exp(x), x <= 0, to 2e-7 of its value; below -87: 0.
inline float exp_negative(float x)
{
    const float t = larger(x * 1.44269504f, -127.0f);
    const int whole = static_cast<int>(t - 0.5f); // the nearest
    const float f = (t - whole) * 0.693147181f;
    const float power =
        1.0f +
        f * (1.0f +
             f * (0.5f + f * (1.66666667e-1f +
                              f * (4.16666667e-2f + f * (8.33333333e-3f + f * 1.38888889e-3f)))));
    return power * __builtin_bit_cast(float, (whole + 127) << 23);
}

//! ln(x), x positive and normal, to 2e-7 of max(1, |ln(x)|): Cephes' logf.
inline float log_positive(float x)
{
    const int bits = __builtin_bit_cast(int, x) - 0x3f3504f3; // above sqrt(1/2)
    const int exponent = bits >> 23;
    const float m = __builtin_bit_cast(float, (bits & 0x7fffff) + 0x3f3504f3) - 1.0f;
    const float z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return m + (z * (m * p) - 0.5f * z) + exponent * 0.693147181f;
}

inline void load(const symbol_job& job, int r, int first, int n, plane& y)
{
    const float* from = job.received[r] + 2 * first;
    const float re = job.turn[r][0], im = job.turn[r][1];
    plane raw;
    if (n == lanes) {
        for (int i = 0; i < lanes; i++) {
            raw.re[i] = from[2 * i];
            raw.im[i] = from[2 * i + 1];
        }
    } else {
        for (int i = 0; i < lanes; i++)
            raw.re[i] = raw.im[i] = 0.0f;
        for (int i = 0; i < n; i++) {
            raw.re[i] = from[2 * i];
            raw.im[i] = from[2 * i + 1];
        }
    }
    for (int i = 0; i < lanes; i++) {
        y.re[i] = raw.re[i] * re - raw.im[i] * im;
        y.im[i] = raw.re[i] * im + raw.im[i] * re;
    }
}

inline void channel(const symbol_job& job, int layer, int r, int first, plane& h)
{
    const float* before = job.before[layer][r] + first;
    const float* after = job.after[layer][r] + first;
    const float v = 1.0f - job.weight, w = job.weight;
    const int im = job.stride;
    for (int i = 0; i < lanes; i++)
        h.re[i] = before[i] * v + after[i] * w;
    for (int i = 0; i < lanes; i++)
        h.im[i] = before[im + i] * v + after[im + i] * w;
}

//! w[r] = row r of the inverse times h
inline void weigh(const symbol_job& job, const plane* h, plane* w)
{
    for (int r = 0; r < job.n_rx; r++)
        for (int q = 0; q < job.n_rx; q++) {
            const float re = job.inverse[r][q][0], im = job.inverse[r][q][1];
            if (q == 0)
                for (int i = 0; i < lanes; i++) {
                    w[r].re[i] = re * h[q].re[i] - im * h[q].im[i];
                    w[r].im[i] = re * h[q].im[i] + im * h[q].re[i];
                }
            else
                for (int i = 0; i < lanes; i++) {
                    w[r].re[i] += re * h[q].re[i] - im * h[q].im[i];
                    w[r].im[i] += re * h[q].im[i] + im * h[q].re[i];
                }
        }
}

//! Sum over the antennas of conj(w) y.
inline void inner(const plane* w, const plane* y, int n_rx, plane& sum)
{
    for (int i = 0; i < lanes; i++)
        sum.re[i] = sum.im[i] = 0.0f;
    for (int r = 0; r < n_rx; r++)
        for (int i = 0; i < lanes; i++) {
            sum.re[i] += w[r].re[i] * y[r].re[i] + w[r].im[i] * y[r].im[i];
            sum.im[i] += w[r].re[i] * y[r].im[i] - w[r].im[i] * y[r].re[i];
        }
}

struct equalised {
    plane x; // unbiased
    alignas(64) float sinr[lanes];
};

inline void combine_one(const symbol_job& job, const plane* y, const plane* h, equalised& out)
{
    plane w[most_antennas], gain, matched;
    if (!job.zero_forcing)
        weigh(job, h, w);
    const plane* const weights = job.zero_forcing ? h : w;
    inner(weights, h, job.n_rx, gain);
    inner(weights, y, job.n_rx, matched);
    alignas(64) float scale[lanes];
    for (int i = 0; i < lanes; i++) {
        scale[i] = 1.0f / larger(gain.re[i], job.zero_forcing ? 1e-30f : 1e-9f);
        out.x.re[i] = matched.re[i] * scale[i];
        out.x.im[i] = matched.im[i] * scale[i];
        out.sinr[i] = gain.re[i];
    }
    if (job.zero_forcing) {
        alignas(64) float noise[lanes]{};
        for (int r = 0; r < job.n_rx; r++)
            for (int i = 0; i < lanes; i++)
                noise[i] += job.noise[r] * (h[r].re[i] * h[r].re[i] + h[r].im[i] * h[r].im[i]);
        for (int i = 0; i < lanes; i++)
            out.sinr[i] /= larger(noise[i] * scale[i], 1e-30f);
    }
}

//! Of two layers in closed form: (G + ridge I)^-1 of the matched filters' outputs, G = H^H C^-1 H.
inline void
combine_two(const symbol_job& job, const plane* y, const plane (*h)[most_antennas], equalised* out)
{
    plane w[most_layers][most_antennas], gain[most_layers], matched[most_layers], cross;
    float worst = 0.0f;
    for (int r = 0; r < job.n_rx; r++)
        worst = larger(worst, job.noise[r]);
    for (int l = 0; l < most_layers; l++) {
        if (!job.zero_forcing)
            weigh(job, h[l], w[l]);
        const plane* const weights = job.zero_forcing ? h[l] : w[l];
        inner(weights, h[l], job.n_rx, gain[l]);
        inner(weights, y, job.n_rx, matched[l]);
        if (l == 0)
            inner(weights, h[1], job.n_rx, cross);
    }
    const float ridge = job.zero_forcing ? 1e-30f : 1.0f;
    const float noise = job.zero_forcing ? worst + 1e-30f : 1.0f;
    for (int l = 0; l < most_layers; l++) {
        const plane &own = matched[l], &other = matched[1 - l];
        const float side = l == 0 ? 1.0f : -1.0f; // the other's row has the conjugate
        for (int i = 0; i < lanes; i++) {
            const float scale = 1.0f / (gain[1 - l].re[i] + ridge);
            const float c_re = cross.re[i] * scale, c_im = side * cross.im[i] * scale;
            const float left = larger(
                gain[l].re[i] - (cross.re[i] * cross.re[i] + cross.im[i] * cross.im[i]) * scale,
                job.zero_forcing ? 1e-36f : 1e-9f);
            out[l].x.re[i] = (own.re[i] - (c_re * other.re[i] - c_im * other.im[i])) / left;
            out[l].x.im[i] = (own.im[i] - (c_re * other.im[i] + c_im * other.re[i])) / left;
            out[l].sinr[i] = left / noise;
        }
    }
}

//! log of the sum of exp(metric) over the levels whose bit has a value: its largest, and the rest.
struct score {
    alignas(64) float most[lanes], sum[lanes];
};

inline void
add_up(const float (*metric)[lanes], int n_levels, int mask, int value, bool max_log, score& s)
{
    bool first = true;
    for (int level = 0; level < n_levels; level++) {
        if ((level & mask) != value)
            continue;
        for (int i = 0; i < lanes; i++)
            s.most[i] = first ? metric[level][i] : larger(s.most[i], metric[level][i]);
        first = false;
    }
    for (int i = 0; i < lanes; i++)
        s.sum[i] = 0.0f;
    for (int level = 0; level < n_levels && !max_log; level++)
        if ((level & mask) == value)
            for (int i = 0; i < lanes; i++)
                s.sum[i] += exp_negative(metric[level][i] - s.most[i]);
}

//! One axis, which does not see the other: a PAM. \param llr [bits][lanes], this axis's every other
inline void demap(const symbol_job& job,
                  const float* levels,
                  int n_bits,
                  const float* x,
                  const float* sinr,
                  float (*llr)[lanes],
                  int axis)
{
    const int n_levels = 1 << n_bits;
    if (n_bits == 1) { // the difference of squares, exactly
        for (int i = 0; i < lanes; i++)
            llr[axis][i] = 4.0f * sinr[i] * x[i] * levels[1];
        return;
    }
    alignas(64) float metric[16][lanes]; // up to what all levels share
    for (int level = 0; level < n_levels; level++) {
        const float twice = 2.0f * levels[level], square = levels[level] * levels[level];
        for (int i = 0; i < lanes; i++)
            metric[level][i] = sinr[i] * (twice * x[i] - square);
    }
    for (int bit = 0; bit < n_bits; bit++) {
        const int mask = 1 << (n_bits - 1 - bit);
        score one, zero;
        add_up(metric, n_levels, mask, mask, job.max_log, one);
        add_up(metric, n_levels, mask, 0, job.max_log, zero);
        float* to = llr[2 * bit + axis];
        for (int i = 0; i < lanes; i++)
            to[i] = one.most[i] - zero.most[i];
        if (!job.max_log)
            for (int i = 0; i < lanes; i++)
                to[i] += log_positive(one.sum[i] / zero.sum[i]);
    }
}

template <int n_bits>
inline void interleave(const float (*llr)[lanes], float* to, int n)
{
    for (int i = 0; i < n; i++)
        for (int bit = 0; bit < n_bits; bit++)
            to[i * n_bits + bit] = llr[bit][i];
}

inline void store(const symbol_job& job, int layer, int first, int n, float (*llr)[lanes])
{
    const int n_bits = job.bits[layer];
    if (const float limit = job.llr_limit[layer]; limit > 0.0f) {
        const float step = limit / 120;
        for (int bit = 0; bit < n_bits; bit++)
            for (int i = 0; i < lanes; i++) {
                const float value = llr[bit][i] / step;
                const float steps = larger(smaller(value, 120.0f), -120.0f);
                const int whole = static_cast<int>(steps + (steps < 0.0f ? -0.5f : 0.5f));
                llr[bit][i] = step * whole + 0.0f * value; // NaN stays
            }
    }
    float* to = job.llr[layer] + first * job.llr_stride;
    if (n_bits == job.llr_stride) {
        switch (n_bits) {
        case 2:
            return interleave<2>(llr, to, n);
        case 4:
            return interleave<4>(llr, to, n);
        case 6:
            return interleave<6>(llr, to, n);
        default:
            return interleave<8>(llr, to, n);
        }
    }
    for (int i = 0; i < n; i++)
        for (int bit = 0; bit < job.llr_stride; bit++)
            to[i * job.llr_stride + bit] = bit < n_bits ? llr[bit][i] : 0.0f;
}

void equalise(const symbol_job& job)
{
    for (int first = 0; first < job.n_subcarriers; first += lanes) {
        const int left = job.n_subcarriers - first;
        const int n = left < lanes ? left : lanes;
        plane y[most_antennas], h[most_layers][most_antennas];
        for (int r = 0; r < job.n_rx; r++) {
            load(job, r, first, n, y[r]);
            for (int layer = 0; layer < job.n_layers; layer++)
                channel(job, layer, r, first, h[layer][r]);
        }
        equalised out[most_layers];
        if (job.n_layers == 1)
            combine_one(job, y, h[0], out[0]);
        else
            combine_two(job, y, h, out);
        for (int layer = 0; layer < job.n_layers; layer++) {
            alignas(64) float llr[8][lanes];
            const int n_bits = job.bits[layer] / 2;
            demap(job, job.levels[layer], n_bits, out[layer].x.re, out[layer].sinr, llr, 0);
            demap(job, job.levels[layer], n_bits, out[layer].x.im, out[layer].sinr, llr, 1);
            store(job, layer, first, n, llr);
        }
    }
}

void filter(const float* from, const float* taps, int n_taps, float* to, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = taps[0] * from[i];
    for (int tap = 1; tap < n_taps; tap++)
        for (int i = 0; i < n; i++)
            to[i] += taps[tap] * from[i + tap];
}

}} // namespace gr::deeprx
