/* SPDX-License-Identifier: GPL-3.0-or-later */

// The loops themselves: all go through positions, a vector at a time.

#pragma once

#include "pusch_kernel.h"
#include "sum_loops.h"
#include "vectors.h"

namespace gr::deeprx { namespace {

constexpr int prb = 12;

void sum(const sum_job& job) { sum_all<plain_sums>(job); }

// ---- Folds

void fold(const fold_job& given)
{
    const fold_job job = given; // which what is stored does not change
    for (int plane = 0; plane < job.n_planes; plane++)
        for (int quad = 0; quad < job.n_quads; quad++) {
            const float* rows[n_folds];
            for (int i = 0; i < n_folds; i++) {
                const int s = job.first + quad * folded_rows + i - 1;
                rows[i] = s < 0 || s >= job.n_rows ? job.nothing
                                                   : job.from + plane * job.pitch + s * job.stride;
            }
            float* to = job.to + plane * job.to_pitch + quad * job.stride;
            const int next = job.n_planes * job.to_pitch;
            for (int n = 0; n < job.stride; n += lanes, to += lanes) {
                vec x[n_folds];
#pragma GCC unroll 6
                for (int i = 0; i < n_folds; i++)
                    x[i] = load(rows[i] + n);
                const vec even = x[4] - 4.0f * x[2], odd = x[3] - 4.0f * x[1];
                const vec near = x[4] - x[2], far = 2.0f * (x[3] - x[1]);
                store(to, 4.0f * (x[0] - x[2]) + near);
                store(to + next, even + odd);
                store(to + 2 * next, even - odd);
                store(to + 3 * next, near + far);
                store(to + 4 * next, near - far);
                store(to + 5 * next, x[5] - x[3] - 4.0f * (x[3] - x[1]));
            }
        }
}

//! Rows from s on, at n: in_row, or the last vector, beyond which the next row begins.
template <bool in_row, bool add>
inline void unfold_at(const unfold_job& job, int plane, int quad, int n)
{
    const int next = job.n_planes * job.from_pitch, s = job.first + quad * folded_rows;
    const float* const from = job.from + plane * job.from_pitch + quad * job.stride + n;
    const vec one = load(from + next), other = load(from + 2 * next);
    const vec far = load(from + 3 * next), other_far = load(from + 4 * next);
    const vec even = one + other, odd = one - other;
    const vec far_even = far + other_far, far_odd = far - other_far;
    const vec rows[folded_rows]{ load(from) + even + far_even,
                                 odd + 2.0f * far_odd,
                                 even + 4.0f * far_even,
                                 odd + 8.0f * far_odd + load(from + 5 * next) };
    const vec least = all(job.relu ? 0.0f : -__builtin_inff());
#pragma GCC unroll 4
    for (int i = 0; i < folded_rows; i++) {
        if (s + i >= job.n_rows)
            break;
        const int at = (s + i) * job.stride + n;
        vec x = rows[i];
        if constexpr (add)
            x += load(job.more + plane * job.more_pitch + at);
        x = masked(larger(x, least), load(job.mask + at));
        float* const to = job.to + plane * job.pitch + at;
        if constexpr (!in_row) {
            ivec lane;
            for (int k = 0; k < lanes; k++)
                lane[k] = k;
            x = chosen(lane < job.stride - n, x, load(to));
        }
        store(to, x);
    }
}

template <bool add>
inline void unfold_all(const unfold_job& given)
{
    const unfold_job job = given; // which what is stored does not change
    const int whole = job.stride / lanes * lanes;
    for (int plane = 0; plane < job.n_planes; plane++) {
        for (int quad = 0; quad < job.n_quads; quad++)
            for (int n = 0; n < whole; n += lanes)
                unfold_at<true, add>(job, plane, quad, n);
        // later, for a processor waits where it reads a part of what it just wrote
        for (int quad = 0; quad < job.n_quads && whole < job.stride; quad++)
            unfold_at<false, add>(job, plane, quad, whole);
    }
}

void unfold(const unfold_job& job) { job.more ? unfold_all<true>(job) : unfold_all<false>(job); }

// ---- What goes in

void front(const front_job& given)
{
    const front_job job = given; // which what is stored does not change
    for (int n = 0; n < job.n_prb; n += lanes) {
        const int left = job.n_prb - n;
        alignas(64) float grid[4][2 * prb][lanes];
        for (int r = 0; r < job.n_rx; r++) {
            const float* from = job.received[r] + 2 * prb * n;
            for (int q = 0; q < 2 * prb; q += lanes) {
                const int first = q + lanes <= 2 * prb ? q : 2 * prb - lanes;
                vec rows[lanes];
#pragma GCC unroll 16
                for (int i = 0; i < lanes; i++)
                    rows[i] = i < left ? load(from + 2 * prb * i + first) : vec{};
                transpose(rows);
#pragma GCC unroll 16
                for (int i = 0; i < lanes; i++)
                    store(grid[r][first + i], rows[i]);
            }
        }
        for (int j = 0; j < prb; j++) {
            const vec cos = load(job.turn + j * job.turn_pitch + n);
            const vec sin = load(job.turn + (prb + j) * job.turn_pitch + n);
            for (int r = 0; r < job.n_rx; r++) {
                vec re{}, im{};
                for (int q = 0; q <= r; q++) {
                    const vec y_re = load(grid[q][2 * j]), y_im = load(grid[q][2 * j + 1]);
                    const float w_re = job.white[r][q][0], w_im = job.white[r][q][1];
                    re += w_re * y_re - w_im * y_im;
                    im += w_re * y_im + w_im * y_re;
                }
                float* to = job.to + (r * 2 * prb + j) * job.pitch + n;
                store(to, re * cos - im * sin); // beyond the symbol, the next one's to write
                store(to + prb * job.pitch, re * sin + im * cos);
            }
        }
    }
}

// ---- Pilots

inline vec square(vec x) { return x * x; }

void look(const look_job& job)
{
    constexpr int most_dmrs = 4;
    const float per_pilot = 1.0f / (6 * job.n_rx * job.n_dmrs);
    for (int n = 0; n < job.n_prb; n += lanes) {
        vec off[most_windows]{}, moves{}, level{};
        for (int r = 0; r < job.n_rx; r++)
            for (int plane = 0; plane < 12; plane++) {
                const int part = plane / 6, i = plane % 6;
                vec middle[most_dmrs], mean{};
                for (int d = 0; d < job.n_dmrs; d++) {
                    const int row = (r * job.n_dmrs + d) * 2 + part;
                    const vec pilot =
                        load(job.pilots + (row * job.pilots_part + i) * job.pilots_pitch + n);
                    for (int w = 1; w < job.n_windows; w++) {
                        const vec smooth =
                            load(job.bank + (row * job.n_bank + 6 * w + i) * job.bank_pitch + n);
                        off[w] += square(pilot - smooth);
                        if (w == 2)
                            middle[d] = smooth;
                    }
                    mean += middle[d];
                }
                mean *= 1.0f / job.n_dmrs;
                for (int d = 0; d < job.n_dmrs; d++) {
                    moves += square(middle[d] - mean);
                    level += square(middle[d]);
                }
            }
        float* to = job.to + n;
        for (int w = 1; w < job.n_windows; w++, to += job.to_pitch)
            store(to, off[w] * (job.power * per_pilot));
        const int apart = job.n_dmrs > 1 ? job.n_dmrs - 1 : 1;
        store(to, moves * (job.power / (6 * job.n_rx * apart)));
        store(to + job.to_pitch, level * per_pilot);
    }
}

void leftover(leftover_job& job)
{
    constexpr int most_dmrs = 4;
    vec left[4][most_windows]{};
    for (int n = 0; n < job.n_prb; n += lanes)
        for (int r = 0; r < job.n_rx; r++)
            for (int plane = 0; plane < 12; plane++) {
                const int part = plane / 6, i = plane % 6;
                const auto row = [&](int d) { return (r * job.n_dmrs + d) * 2 + part; };
                vec pilots[most_dmrs];
                for (int d = 0; d < job.n_dmrs; d++)
                    pilots[d] = load(job.pilots + (row(d) * 6 + i) * job.pilots_pitch + n);
                for (int w = 0; w < job.n_windows; w++) {
                    vec smooth[most_dmrs];
                    for (int d = 0; d < job.n_dmrs; d++) {
                        const int at = (row(d) * job.n_bank + 6 * w + i) * job.bank_pitch + n;
                        smooth[d] = load(job.bank + at);
                        if (job.other)
                            smooth[d] += (i % 2 ? -1.0f : 1.0f) * load(job.other + at);
                    }
                    const float* fit = job.fits;
                    for (int kind = 0; kind < job.n_fits; kind++)
                        for (int d = 0; d < job.n_dmrs; d++) {
                            vec rest = pilots[d];
                            for (int from = 0; from < job.n_dmrs; from++)
                                rest -= *fit++ * smooth[from];
                            left[kind][w] += square(rest);
                        }
                }
            }
    for (int kind = 0; kind < job.n_fits; kind++)
        for (int w = 0; w < job.n_windows; w++)
            job.left[kind][w] = sum(left[kind][w]);
}

//! Subcarriers without pilots, from the neighbours'; at an edge the nearest.
inline void fill_between(const mix_job& job, float* to)
{
    const int odd = job.first, pitch = job.pitch;
    const int end = odd ? 0 : prb - 2, other = odd ? prb - 1 : 0; // planes of pilots
    for (int s = 0; s < job.n_symbols; s++) {
        float* row = to + s * job.stride;
        if (odd)
            row[other * pitch - 1] = row[1 * pitch];
        else
            row[other * pitch + job.n_prb] = row[end * pitch + job.n_prb - 1];
    }
    const int n = job.n_symbols * job.stride;
    for (int i = 0; i < 6; i++) {
        const float* const here = to + (2 * i + odd) * pitch;
        const float* const next = odd ? (i > 0 ? here - 2 * pitch : to + other * pitch - 1)
                                      : (i < 5 ? here + 2 * pitch : to + 1);
        float* const between = to + (2 * i + 1 - odd) * pitch;
        for (int p = 0; p < n; p += lanes)
            store(between + p, 0.5f * (load(here + p) + load(next + p)));
    }
}

void mix(const mix_job& job)
{
    constexpr int n_pilots = 6, most_terms = 4 * 8;
    for (int r = 0; r < job.n_rx; r++)
        for (int part = 0; part < 2; part++) {
            float* const to = job.to + (r * 2 + part) * prb * job.pitch;
            // from the last: beyond a row lies the next one's first vector
            for (int n = (job.n_prb - 1) / lanes * lanes; n >= 0; n -= lanes) {
                vec steered[most_terms][n_pilots];
                for (int d = 0; d < job.n_dmrs; d++) {
                    const int row = (r * job.n_dmrs + d) * 2 + part;
                    const float* gate = job.gates + n;
                    for (int m = 0; m < job.n_modes; m++) {
                        const float* bank = job.bank + row * job.n_bank * job.bank_pitch + n;
                        vec sum[n_pilots]{};
                        for (int w = 0; w < job.n_windows; w++, gate += job.gates_pitch) {
                            const vec by = load(gate);
#pragma GCC unroll 6
                            for (int i = 0; i < n_pilots; i++, bank += job.bank_pitch)
                                sum[i] += load(bank) * by;
                        }
#pragma GCC unroll 6
                        for (int i = 0; i < n_pilots; i++)
                            steered[m * job.n_dmrs + d][i] = sum[i];
                    }
                }
                float* row = to + job.first * job.pitch + n;
                for (int s = 0; s < job.n_symbols; s++, row += job.stride) {
                    vec h[n_pilots]{};
                    for (int m = 0; m < job.n_modes; m++)
                        for (int d = 0; d < job.n_dmrs; d++) {
                            const float mode = job.modes[(m * job.n_symbols + s) * job.n_dmrs + d];
#pragma GCC unroll 6
                            for (int i = 0; i < n_pilots; i++)
                                h[i] += mode * steered[m * job.n_dmrs + d][i];
                        }
#pragma GCC unroll 6
                    for (int i = 0; i < n_pilots; i++)
                        store(row + 2 * i * job.pitch, h[i]);
                }
            }
            fill_between(job, to);
        }
}

// ---- Grids

struct pair {
    vec re, im;
};

//! a b*
inline pair times_conj(pair a, pair b)
{
    return { a.re * b.re + a.im * b.im, a.im * b.re - a.re * b.im };
}
inline pair times(pair a, pair b)
{
    return { a.re * b.re - a.im * b.im, a.im * b.re + a.re * b.im };
}
inline vec power(pair a) { return a.re * a.re + a.im * a.im; }
inline pair pair_at(const float* from, int im) { return { load(from), load(from + im) }; }

template <int n_layers>
struct combined {
    pair x[n_layers];
    vec sinr[n_layers];
};

//! z = white z
template <int n_rx>
inline void whiten(const vec* white, pair (&z)[n_rx])
{
#pragma GCC unroll 4
    for (int r = n_rx - 1; r >= 0; r--) {
        const vec* row = white + r * r;
        z[r] = { row[2 * r] * z[r].re, row[2 * r] * z[r].im };
#pragma GCC unroll 4
        for (int q = 0; q < r; q++) {
            z[r].re += row[2 * q] * z[q].re - row[2 * q + 1] * z[q].im;
            z[r].im += row[2 * q] * z[q].im + row[2 * q + 1] * z[q].re;
        }
    }
}

//! The whitener of a vector of positions.
template <int n_rx>
struct whitener_at {
    whitener_at(const grid_view& grid, int p)
    {
        for (int i = 0; i < n_rx * n_rx && grid.white; i++)
            all[i] = load(grid.white + i * grid.pitch + p);
    }
    vec all[n_rx * n_rx]{};
};

//! LMMSE of one or two layers at unit noise power, its bias removed.
template <int n_layers, int n_rx>
inline combined<n_layers>
combine(const grid_view& grid, const whitener_at<n_rx>& white, int j, int p)
{
    const int im = prb * grid.pitch, antenna = 2 * im;
    const float* y = grid.y + j * grid.pitch + p;
    const float* h = grid.h + j * grid.pitch + p;
    combined<n_layers> out{};
    pair received[n_rx], channel[n_layers][n_rx], cross{}; // of the second on the first
#pragma GCC unroll 4
    for (int r = 0; r < n_rx; r++) {
        received[r] = pair_at(y + r * antenna, im);
#pragma GCC unroll 2
        for (int l = 0; l < n_layers; l++)
            channel[l][r] = pair_at(h + (l * n_rx + r) * antenna, im);
    }
    if (grid.white) {
        whiten(white.all, received);
#pragma GCC unroll 2
        for (int l = 0; l < n_layers; l++)
            whiten(white.all, channel[l]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < n_rx; r++) {
#pragma GCC unroll 2
        for (int l = 0; l < n_layers; l++) {
            const pair matched = times_conj(received[r], channel[l][r]);
            out.x[l].re += matched.re;
            out.x[l].im += matched.im;
            out.sinr[l] += power(channel[l][r]);
        }
        if constexpr (n_layers == 2) {
            const pair of = times_conj(channel[1][r], channel[0][r]);
            cross.re += of.re;
            cross.im += of.im;
        }
    }
    if constexpr (n_layers == 2) {
        const pair turn = pair_at(grid.turn + j * grid.pitch + p, im);
        out.x[1] = times_conj(out.x[1], turn);
        cross = times(cross, turn);
        const vec other[2]{ inverse(1.0f + out.sinr[1]), inverse(1.0f + out.sinr[0]) };
        const vec shared = power(cross);
        const pair leak[2]{ times(cross, out.x[1]), times_conj(out.x[0], cross) };
        for (int l = 0; l < 2; l++) {
            out.sinr[l] -= shared * other[l];
            out.x[l].re -= leak[l].re * other[l];
            out.x[l].im -= leak[l].im * other[l];
        }
    }
#pragma GCC unroll 2
    for (int l = 0; l < n_layers; l++) {
        out.sinr[l] = larger(out.sinr[l], all(1e-6f));
        const vec scale = inverse(out.sinr[l]);
        out.x[l].re *= scale;
        out.x[l].im *= scale;
    }
    return out;
}

float unexplained(const grid_view& grid,
                  const float* known,
                  int first,
                  int n_prb,
                  int from,
                  int every,
                  const int32_t* mask)
{
    const int im = prb * grid.pitch;
    vec left{};
    for (int n = 0; n < n_prb; n += lanes) {
        vec of_vector{};
        for (int j = from; j < prb; j += every) {
            const int at = j * grid.pitch + first + n;
            pair sent[2];
            for (int l = 0; l < grid.n_layers; l++) {
                sent[l] = pair_at(known + l * 2 * im + at, im);
                if (l == 1)
                    sent[l] = times(sent[l], pair_at(grid.turn + at, im));
            }
            for (int r = 0; r < grid.n_rx; r++) {
                pair rest = pair_at(grid.y + r * 2 * im + at, im);
                for (int l = 0; l < grid.n_layers; l++) {
                    const pair h = pair_at(grid.h + (l * grid.n_rx + r) * 2 * im + at, im);
                    const pair expected = times(h, sent[l]);
                    rest.re -= expected.re;
                    rest.im -= expected.im;
                }
                of_vector += power(rest);
            }
        }
        left += masked(of_vector, load(mask + n));
    }
    return sum(left);
}

//! Half the distance of neighbouring levels of square QAM at unit power, by half the bits.
constexpr float spacings[]{
    0.0f, 0.7071067811865476f, 0.31622776601683794f, 0.1543033499620919f, 0.07669649888473704f
};

/*!
 * How far x is on the side of 1, for each bit of an axis of Gray QAM: folding the axis at one bit's
 * threshold leaves the next bit's.
 */
template <int n_bits>
inline void decisions(vec x, vec (&side)[n_bits])
{
    side[0] = -x;
#pragma GCC unroll 4
    for (int i = 1; i < n_bits; i++)
        side[i] = magnitude(side[i - 1]) - float(1 << (n_bits - i)) * spacings[n_bits];
}

//! What was probably sent.
template <int n_bits>
inline vec soft_level(vec x, vec sinr)
{
    const vec slope = (-1.6f * spacings[n_bits]) * sinr;
    vec side[n_bits], level{};
    decisions<n_bits>(x, side);
#pragma GCC unroll 4
    for (int i = 0; i < n_bits; i++)
        level = clamped(slope * side[n_bits - 1 - i], all(1.0f)) * (float(1 << i) - level);
    return level * spacings[n_bits];
}

//! exp(-sinr |x - s|^2) of each of an axis's levels s over that of the nearest.
template <int n>
struct likelihoods {
    /*!
     * Of neighbours that is exp(4 spacing sinr (x - t)), t the threshold between them; of s to -s
     * exp(4 sinr x s). What it adds is nothing beside 1, and spares processors numbers below the
     * smallest normal one, which take some a hundred cycles.
     * \param x its magnitude \param spacing half the distance of neighbours
     */
    [[gnu::always_inline]] likelihoods(vec x, vec sinr, float spacing)
    {
        const vec slope = sinr * (-4 * 1.44269504f * spacing);
        const auto falling = [slope](vec off) {
            return power_of_two(larger(slope * off, all(-100.0f)));
        };
        vec inwards[n];
        near[0] = inwards[0] = all(1.0f);
#pragma GCC unroll 8
        for (int i = 1; i < n; i++) {
            const vec off = x - 2 * i * spacing, ratio = falling(magnitude(off));
            const ivec beyond = off > 0.0f;
            const vec outwards = beyond ? all(1.0f) : ratio;
            inwards[i] = beyond ? ratio : all(1.0f);
            near[i] = i == 1 ? outwards : near[i - 1] * outwards + little;
        }
#pragma GCC unroll 8
        for (int i = n - 1; i > 0; i--) {
            if (i < n - 1)
                inwards[i] = inwards[i] * inwards[i + 1] + little;
            near[i - 1] = i == 1 ? inwards[i] : near[i - 1] * inwards[i] + little;
        }
        vec power = falling(x);
        const vec square = power * power + little;
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            far[i] = near[i] * power + little;
            power = power * square + little;
        }
    }
    vec all_of_them() const
    {
        vec sum{};
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            sum += near[i] + far[i];
        return sum;
    }
    //! The sum of each times |x - s|^2 of any x, on the same side where it is positive.
    vec squares(vec x, float spacing) const
    {
        vec sum{};
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            const vec to_near = x - spacing * (2 * i + 1), to_far = x + spacing * (2 * i + 1);
            sum += near[i] * to_near * to_near;
            sum += far[i] * to_far * to_far;
        }
        return sum;
    }

    vec near[n], far[n]; // outwards: those on x's side, and those on the other

private:
    static constexpr float little = 0x1p-100f;
};

//! E[|x - s|^2] sinr of an axis, over the levels s that may have been sent.
template <int n_bits>
inline vec second_moment(vec x, vec sinr)
{
    x = magnitude(x);
    const likelihoods<(1 << n_bits) / 2> likely(x, sinr, spacings[n_bits]);
    return sinr * likely.squares(x, spacings[n_bits]) * inverse(likely.all_of_them());
}

//! E[|sent - s|^2] of a decision on a symbol's axis, over the four levels about x.
template <int n_bits>
inline vec decision_error(vec sent, vec x, vec sinr)
{
    constexpr float spacing = spacings[n_bits], most = n_bits < 3 ? 0 : (1 << (n_bits - 1)) - 2;
    const vec middle = (2 * spacing) * nearest_whole(clamped(x * (0.5f / spacing), all(most)));
    x -= middle;
    sent = flipped(sent - middle, x);
    const likelihoods<n_bits == 1 ? 1 : 2> likely(magnitude(x), sinr, spacing);
    return likely.squares(sent, spacing) * inverse(likely.all_of_them());
}

//! What was probably sent in a PRB, and where asked for how far that is off, by decision_error().
template <int n_bits>
inline void decide(const pair* x, const vec* sinr, pair* sent, vec* error)
{
    for (int j = 0; j < prb; j++)
        sent[j] = { soft_level<n_bits>(x[j].re, sinr[j]), soft_level<n_bits>(x[j].im, sinr[j]) };
    for (int j = 0; j < prb && error; j++)
        error[j] = decision_error<n_bits>(sent[j].re, x[j].re, sinr[j]) +
                   decision_error<n_bits>(sent[j].im, x[j].im, sinr[j]);
}

inline void decide(int bits, const pair* x, const vec* sinr, pair* sent, vec* error)
{
    switch (bits) {
    case 2:
        return decide<1>(x, sinr, sent, error);
    case 4:
        return decide<2>(x, sinr, sent, error);
    case 6:
        return decide<3>(x, sinr, sent, error);
    default:
        return decide<4>(x, sinr, sent, error);
    }
}

//! A bit behind the first, which is the side, of an axis's level, by its place from 0 outwards.
constexpr bool bit_of(int n_bits, int level, int bit)
{
    int side = 2 * level + 1; // as decisions() has it
    for (int i = 1; i <= bit; i++)
        side = (side < 0 ? -side : side) - (1 << (n_bits - i));
    return side > 0;
}

//! Of an axis, over the levels s that may have been sent, times its SINR: E[|x - s|^2], x E[s] and
//! E[s^2].
struct moments {
    vec noise, along, energy;
};

//! What exact LLRs are the logarithms of, of an axis that says nothing of its bits with the
//! probability `doubt`; and moments.
template <int n_bits>
inline moments demap(vec x, vec sinr, vec doubt, vec (&odds)[n_bits])
{
    constexpr int n = (1 << n_bits) / 2;
    const ivec left = x < 0.0f;
    x = magnitude(x);
    const likelihoods<n> likely(x, sinr, spacings[n_bits]);
    const vec all_of_them = likely.all_of_them(), nothing = doubt * all_of_them;
    const auto odds_of = [nothing](vec one, vec zero) {
        return (one + nothing) * inverse(zero + nothing);
    };
    vec near{}, far{}, both[n];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        near += likely.near[i];
        far += likely.far[i];
        both[i] = likely.near[i] + likely.far[i];
    }
    odds[0] = odds_of(left ? near : far, left ? far : near);
#pragma GCC unroll 4
    for (int bit = 1; bit < n_bits; bit++) {
        vec one{}, zero{};
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            (bit_of(n_bits, i, bit) ? one : zero) += both[i];
        odds[bit] = odds_of(one, zero);
    }
    vec mean{}, energy{};
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        const float level = spacings[n_bits] * (2 * i + 1);
        mean += (likely.near[i] - likely.far[i]) * level;
        energy += both[i] * (level * level);
    }
    sinr *= inverse(all_of_them);
    return { sinr * likely.squares(x, spacings[n_bits]), x * mean * sinr, energy * sinr };
}

inline vec half_log_of(vec x) { return 0.5f * logarithm(x + 0.01f); }

//! innovation [12] in the basis: n_outputs of it
template <int n_outputs>
inline void
project(const vec* innovation, const float* into, int basis, float* to, int pitch, ivec mask)
{
    vec sum[n_outputs]{};
    for (int j = 0; j < prb; j++, into += basis) {
        const vec x = innovation[j];
#pragma GCC unroll 8
        for (int o = 0; o < n_outputs; o++)
            sum[o] += into[o] * x;
    }
#pragma GCC unroll 8
    for (int o = 0; o < n_outputs; o++)
        store(to + o * pitch, masked(sum[o], mask));
}

inline void project_all(const vec* innovation, const round_job& job, float* to, ivec mask)
{
    int o = 0;
    for (; o + 6 <= job.basis; o += 6)
        project<6>(
            innovation, job.into + o, job.basis, to + o * job.inner_pitch, job.inner_pitch, mask);
    for (; o + 2 <= job.basis; o += 2)
        project<2>(
            innovation, job.into + o, job.basis, to + o * job.inner_pitch, job.inner_pitch, mask);
    for (; o < job.basis; o++)
        project<1>(
            innovation, job.into + o, job.basis, to + o * job.inner_pitch, job.inner_pitch, mask);
}

//! job.noise of positions: their covariance, and what their decisions' errors add.
template <int n_layers, int n_rx>
inline void
add_errors(const round_job& job, int p, const vec (&covariance)[n_rx * n_rx], const vec* error)
{
    const grid_view& grid = job.grid;
    const int im = prb * grid.pitch;
    vec sum[n_rx * n_rx];
    for (int i = 0; i < n_rx * n_rx; i++)
        sum[i] = covariance[i];
    for (int l = 0; l < n_layers; l++)
        for (int j = 0; j < prb; j++, error++) {
            pair h[n_rx];
#pragma GCC unroll 4
            for (int r = 0; r < n_rx; r++) {
                h[r] = pair_at(grid.h + ((l * n_rx + r) * 2 * prb + j) * grid.pitch + p, im);
                sum[r * r + 2 * r] += power(h[r]) * *error;
#pragma GCC unroll 4
                for (int q = 0; q < r; q++) {
                    const pair of = times_conj(h[r], h[q]);
                    sum[r * r + 2 * q] += of.re * *error;
                    sum[r * r + 2 * q + 1] += of.im * *error;
                }
            }
        }
    for (int i = 0; i < n_rx * n_rx; i++)
        store(job.noise + i * grid.pitch + p, sum[i]);
}

template <int n_layers, int n_rx>
inline void round_of(round_job& given)
{
    constexpr int n_parts = 2 * n_rx;
    const round_job job = given; // which what is stored does not change
    const grid_view& grid = job.grid;
    const int im = prb * grid.pitch;
    vec sums[n_layers][3]{};
    for (int p = 0; p < grid.n; p += lanes) {
        pair x[n_layers][prb], decided[n_layers][prb];
        vec of_symbols[n_layers][prb], error[n_layers][prb];
        vec innovation[n_layers][n_parts][prb], total[n_layers][n_parts]{};
        vec missed[n_layers]{}, energy[n_layers]{}, sinr[n_layers]{}, left{};
        const whitener_at<n_rx> white(grid, p);
        vec covariance[n_rx * n_rx]{};
        const bool all_data = job.all_data[p / most_lanes];
        for (int j = 0; j < prb; j++) {
            const auto found = combine<n_layers>(grid, white, j, p);
            for (int l = 0; l < n_layers; l++) {
                x[l][j] = found.x[l];
                of_symbols[l][j] = found.sinr[l];
            }
        }
        for (int l = 0; l < n_layers; l++)
            decide(grid.bits[l], x[l], of_symbols[l], decided[l], job.noise ? error[l] : nullptr);
        for (int j = 0; j < prb; j++) {
            pair sent[n_layers];
            for (int l = 0; l < n_layers; l++) {
                sent[l] = decided[l][j];
                sinr[l] += of_symbols[l][j];
                vec off =
                    power({ x[l][j].re - sent[l].re, x[l][j].im - sent[l].im }) * of_symbols[l][j];
                if (!all_data) {
                    const ivec data = load(job.data + j * grid.pitch + p);
                    const pair known = pair_at(job.known + (l * 2 * prb + j) * grid.pitch + p, im);
                    sent[l] = { chosen(data, sent[l].re, known.re),
                                chosen(data, sent[l].im, known.im) };
                    off = masked(off, data);
                    error[l][j] = masked(error[l][j], data);
                }
                missed[l] += off;
                energy[l] += power(sent[l]);
            }
            if constexpr (n_layers == 2)
                sent[1] = times(sent[1], pair_at(grid.turn + j * grid.pitch + p, im));
            pair all_rest[n_rx];
            for (int r = 0; r < n_rx; r++) {
                pair& rest = all_rest[r] = pair_at(grid.y + (r * 2 * prb + j) * grid.pitch + p, im);
                for (int l = 0; l < n_layers; l++) {
                    const pair h =
                        pair_at(grid.h + ((l * n_rx + r) * 2 * prb + j) * grid.pitch + p, im);
                    const pair expected = times(h, sent[l]);
                    rest.re -= expected.re;
                    rest.im -= expected.im;
                }
                covariance[r * r + 2 * r] += power(rest);
                for (int q = 0; q < r; q++) {
                    const pair of = times_conj(rest, all_rest[q]);
                    covariance[r * r + 2 * q] += of.re;
                    covariance[r * r + 2 * q + 1] += of.im;
                }
                for (int l = 0; l < n_layers; l++) {
                    const pair of = times_conj(rest, sent[l]);
                    innovation[l][2 * r][j] = of.re;
                    innovation[l][2 * r + 1][j] = of.im;
                    float* to = job.innovation + ((l * n_parts + 2 * r) * prb + j) * grid.pitch + p;
                    store(to, of.re);
                    store(to + im, of.im);
                    total[l][2 * r] += of.re;
                    total[l][2 * r + 1] += of.im;
                }
            }
        }
        const ivec mask = load(job.mask + p);
        for (int i = 0; i < n_rx * n_rx; i++)
            store(job.covariance + i * grid.pitch + p, covariance[i]);
        if (job.noise)
            add_errors<n_layers, n_rx>(job, p, covariance, error[0]);
        for (int r = 0; r < n_rx; r++)
            left += covariance[r * r + 2 * r];
        left *= 1.0f / (prb * n_rx);
        for (int l = 0; l < n_layers; l++)
            energy[l] *= 1.0f / prb;
        for (int l = 0; l < n_layers; l++) {
            vec coherent{};
            for (int c = 0; c < n_parts; c++)
                coherent += total[l][c] * total[l][c];
            coherent *= 1.0f / (prb * n_rx) / (energy[l] + 0.05f); // 12 of their mean's square
            const vec quality = sinr[l] * (1.0f / (prb * n_rx));
            sums[l][0] += masked(coherent, mask);
            sums[l][1] += masked(left, mask);
            sums[l][2] += masked(quality, mask);
            const vec other = n_layers == 2 ? energy[n_layers - 1 - l] : vec{};
            const vec seen[n_seen]{ half_log_of(coherent),
                                    half_log_of(left),
                                    half_log_of(quality),
                                    half_log_of(missed[l] * (1.0f / prb)),
                                    energy[l],
                                    other };
            for (int i = 0; i < n_seen; i++)
                store(job.seen + (l * n_seen + i) * job.seen_pitch + p, masked(seen[i], mask));
            for (int c = 0; c < n_parts; c++)
                project_all(innovation[l][c],
                            job,
                            job.inner + (l * n_parts + c) * job.basis * job.inner_pitch + p,
                            mask);
        }
    }
    for (int l = 0; l < n_layers; l++)
        for (int i = 0; i < 3; i++)
            given.sums[l][i] = sum(sums[l][i]);
}

template <int n_layers>
inline void round_of(round_job& job)
{
    switch (job.grid.n_rx) {
    case 1:
        return round_of<n_layers, 1>(job);
    case 2:
        return round_of<n_layers, 2>(job);
    case 3:
        return round_of<n_layers, 3>(job);
    default:
        return round_of<n_layers, 4>(job);
    }
}

void round(round_job& job) { job.grid.n_layers == 1 ? round_of<1>(job) : round_of<2>(job); }

// ---- Interference

constexpr int n_averages = 4;                       // of covariances, the last over all PRBs
constexpr int average_reach[n_averages]{ 0, 1, 4 }; // PRBs to both sides

void interference(const interference_job& job)
{
    const int n_numbers = job.n_rx * job.n_rx;
    for (int i = 0; i < n_numbers; i++) {
        float* const own = job.bank + i * job.bank_pitch;
        vec total{};
        for (int n = 0; n < job.n_prb; n += lanes) {
            vec sum{};
            for (int s = 0; s < job.n_symbols; s++)
                sum += load(job.sums + i * job.pitch + s * job.stride + n);
            for (int k = job.n_prb - n; k < lanes; k++) // there averages begin to be over fewer
                sum[k] = 0.0f;
            sum *= 1.0f / (prb * job.n_symbols);
            total += sum;
            store(own + n, sum);
        }
        const vec mean = all(sum(total) / float(job.n_prb));
        for (int n = 0; n < job.n_prb; n += lanes)
            store(own + (n_averages - 1) * n_numbers * job.bank_pitch + n, mean);
        for (int a = 1; a < n_averages - 1; a++)
            for (int n = 0; n < job.n_prb; n += lanes) {
                vec sum{};
                for (int k = -average_reach[a]; k <= average_reach[a]; k++)
                    sum += load(own + n + k);
                store(own + a * n_numbers * job.bank_pitch + n,
                      sum * load(job.shares + a * job.shares_pitch + n));
            }
    }
    for (int n = 0; n < job.n_prb; n += lanes) {
        vec loudness[n_averages];
        float* const seen = job.seen + n;
        for (int a = 0; a < n_averages; a++) {
            const float* cov = job.bank + a * n_numbers * job.bank_pitch + n;
            vec power{}, square{};
            for (int r = 0; r < job.n_rx; r++)
                for (int i = r * r; i <= r * r + 2 * r; i++) {
                    const vec x = load(cov + i * job.bank_pitch);
                    const bool diagonal = i == r * r + 2 * r;
                    square += diagonal ? x * x : 2.0f * x * x;
                    power += diagonal ? x : vec{};
                }
            power *= 1.0f / job.n_rx;
            loudness[a] = logarithm(power + 0.01f);
            const vec directed = square / (float(job.n_rx) * power * power + 1e-12f);
            store(seen + a * job.seen_pitch, loudness[a]);
            store(seen + (n_averages + a) * job.seen_pitch, logarithm(directed));
        }
        for (int a = 0; a < n_averages - 1; a++)
            store(seen + (2 * n_averages + a) * job.seen_pitch,
                  loudness[a] - loudness[n_averages - 1]);
    }
}

//! The inverse of the Cholesky factor of a covariance, in place.
template <int n_rx>
inline void invert_factor(vec (&c)[n_rx * n_rx])
{
    const auto at = [&c](int r, int q) { return pair{ c[r * r + 2 * q], c[r * r + 2 * q + 1] }; };
    vec inverse[n_rx * n_rx]; // of what is on the diagonal
    for (int r = 0; r < n_rx; r++) {
        for (int q = 0; q <= r; q++) {
            pair sum = q < r ? at(r, q) : pair{ c[r * r + 2 * r], vec{} };
            for (int k = 0; k < q; k++) {
                const pair a = at(r, k), b = at(q, k);
                const pair of = q < r ? times_conj(a, b) : pair{ power(a), vec{} };
                sum.re -= of.re;
                sum.im -= of.im;
            }
            if (q < r) {
                c[r * r + 2 * q] = sum.re * inverse[q];
                c[r * r + 2 * q + 1] = sum.im * inverse[q];
            } else {
                inverse[r] = 1.0f / root(sum.re);
            }
        }
    }
    // row by row; those above are inverted already
    for (int r = 0; r < n_rx; r++) {
        pair row[n_rx];
        for (int q = 0; q < r; q++) {
            pair sum{};
            for (int k = q; k < r; k++) {
                const pair b = k > q ? at(k, q) : pair{ c[q * q + 2 * q], vec{} };
                const pair of = times(at(r, k), b);
                sum.re -= of.re;
                sum.im -= of.im;
            }
            row[q] = { sum.re * inverse[r], sum.im * inverse[r] };
        }
        for (int q = 0; q < r; q++) {
            c[r * r + 2 * q] = row[q].re;
            c[r * r + 2 * q + 1] = row[q].im;
        }
        c[r * r + 2 * r] = inverse[r];
    }
}

template <int n_rx>
inline void whitener_of(const whitener_job& job)
{
    constexpr int n_numbers = n_rx * n_rx;
    for (int n = 0; n < job.n_prb; n += lanes) {
        vec weights[1 + n_averages], most = all(-1e30f), sum{};
        for (int i = 0; i <= n_averages; i++) {
            weights[i] = load(job.weights + i * job.weights_pitch + n);
            most = larger(most, weights[i]);
        }
        for (vec& weight : weights)
            sum += weight = exponential(weight - most);
        const vec scale = 1.0f / sum;
        vec covariance[n_numbers]{};
        for (int r = 0; r < n_rx; r++)
            covariance[r * r + 2 * r] = weights[0];
        for (int a = 0; a < n_averages; a++)
            for (int i = 0; i < n_numbers; i++)
                covariance[i] +=
                    weights[1 + a] * load(job.bank + (a * n_numbers + i) * job.bank_pitch + n);
        for (vec& number : covariance)
            number *= scale;
        invert_factor<n_rx>(covariance);
        for (int i = 0; i < n_numbers; i++)
            store(job.white + i * job.white_pitch + n, covariance[i]);
    }
}

void whitener(const whitener_job& job)
{
    switch (job.n_rx) {
    case 1:
        return whitener_of<1>(job);
    case 2:
        return whitener_of<2>(job);
    case 3:
        return whitener_of<3>(job);
    default:
        return whitener_of<4>(job);
    }
}

// ---- Filters

constexpr int filtered_rows = 5; // at once

//! Of n_rows rows from `first` on, at their positions n: taps[i] is of the row that is `half` - i
//! before, and there are zeros around them.
template <int n_rows, int n_vectors>
inline void filter_at(const time_job& job, int f, const float* taps, int first, int n)
{
    const int half = job.n_taps / 2;
    const int from = first > half ? first - half : 0;
    const int last = first + n_rows - 1 + half;
    const int end = last < job.n_symbols ? last + 1 : job.n_symbols;
    const float* const rows = job.from + f * job.from_pitch + n;
    vec sum[n_rows][n_vectors]{};
    for (int s = from; s < end; s++) {
        vec x[n_vectors];
#pragma GCC unroll 2
        for (int v = 0; v < n_vectors; v++)
            x[v] = load(rows + s * job.stride + v * lanes);
        const float* tap = taps + half + s - first;
        asm("" : "+r"(tap)); // GCC would keep them in registers, and spread each anew from there
#pragma GCC unroll 5
        for (int i = 0; i < n_rows; i++)
#pragma GCC unroll 2
            for (int v = 0; v < n_vectors; v++)
                sum[i][v] += all(tap[-i]) * x[v];
    }
    const int start = first * job.stride, stride = job.stride;
    const float* const plain = rows + start;
    const float* const steer = job.steer + f * job.steer_pitch + start + n;
    const float* const steer_sum = steer + job.n_filters * job.steer_pitch;
    float* const to = job.to + f * job.to_pitch + start + n;
    float* const to_sum = to + job.n_filters * job.to_pitch;
#pragma GCC unroll 5
    for (int i = 0; i < n_rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < n_vectors; v++) {
            const int at = i * stride + v * lanes;
            store(to + at, load(plain + at) * load(steer + at));
            store(to_sum + at, sum[i][v] * load(steer_sum + at));
        }
}

template <int n_vectors>
inline void filter_rows(const time_job& job, int f, const float* taps, int n)
{
    constexpr int n_rows = filtered_rows;
    int s = 0;
    for (; s + n_rows <= job.n_symbols; s += n_rows)
        filter_at<n_rows, n_vectors>(job, f, taps, s, n);
    if (s < job.n_symbols && s > 0) // some of them once more
        return filter_at<n_rows, n_vectors>(job, f, taps, job.n_symbols - n_rows, n);
    for (; s < job.n_symbols; s++)
        filter_at<1, n_vectors>(job, f, taps, s, n);
}

void time(const time_job& job)
{
    constexpr int most_taps = 32;
    float taps[most_taps + 2 * filtered_rows]{};
    for (int f = 0; f < job.n_filters; f++) {
        for (int tap = 0; tap < job.n_taps; tap++)
            taps[filtered_rows + tap] = job.taps[f * job.n_taps + tap];
        // from the last: beyond a row lies the next one's first vector
        int n = (job.stride - 1) / lanes * lanes;
        if (n / lanes % 2 == 0) {
            filter_rows<1>(job, f, taps + filtered_rows, n);
            n -= lanes;
        }
        for (n -= lanes; n >= 0; n -= 2 * lanes)
            filter_rows<2>(job, f, taps + filtered_rows, n);
    }
}

// ---- What comes out

template <int n_bits>
inline vec noise_of(const pair* x, const vec* sinr, const ivec* data, bool all_data)
{
    vec noise{};
    for (int j = 0; j < prb; j++) {
        const vec of =
            second_moment<n_bits>(x[j].re, sinr[j]) + second_moment<n_bits>(x[j].im, sinr[j]);
        noise += all_data ? of : masked(of, data[j]);
    }
    return noise * (1.0f / prb);
}

inline vec noise_of(int bits, const pair* x, const vec* sinr, const ivec* data, bool all_data)
{
    switch (bits) {
    case 2:
        return noise_of<1>(x, sinr, data, all_data);
    case 4:
        return noise_of<2>(x, sinr, data, all_data);
    case 6:
        return noise_of<3>(x, sinr, data, all_data);
    default:
        return noise_of<4>(x, sinr, data, all_data);
    }
}

template <int n_layers, int n_rx>
inline void symbols_of(const symbols_job& given)
{
    const symbols_job job = given; // which what is stored does not change
    const grid_view& grid = job.grid;
    for (int p = 0; p < grid.n; p += lanes) {
        pair x[n_layers][prb];
        vec sinr[n_layers][prb], level[n_layers]{}, square[n_layers]{};
        ivec data[prb];
        const whitener_at<n_rx> white(grid, p);
        const bool all_data = job.all_data[p / most_lanes];
        for (int j = 0; j < prb; j++) {
            const auto found = combine<n_layers>(grid, white, j, p);
            if (!all_data)
                data[j] = load(job.data + j * grid.pitch + p);
            for (int l = 0; l < n_layers; l++) {
                x[l][j] = found.x[l];
                sinr[l][j] = found.sinr[l];
                const vec log = logarithm(found.sinr[l]);
                level[l] += log;
                square[l] += log * log;
                float* to = job.x + (l * 2 * prb + j) * job.pitch + p;
                store(to, found.x[l].re);
                store(to + prb * job.pitch, found.x[l].im);
                store(job.log_sinr + (l * prb + j) * job.pitch + p, log);
            }
        }
        const ivec mask = load(job.mask + p);
        for (int l = 0; l < n_layers; l++) {
            const vec mean = level[l] * (1.0f / prb);
            const vec variance = square[l] * (1.0f / prb) - mean * mean;
            store(job.level[l] + p, masked(mean, mask));
            store(job.level[l] + job.level_pitch + p, masked(root(larger(variance, vec{})), mask));
            store(job.noise + l * job.pitch + p,
                  masked(noise_of(grid.bits[l], x[l], sinr[l], data, all_data), mask));
        }
    }
}

template <int n_layers>
inline void symbols_of(const symbols_job& job)
{
    switch (job.grid.n_rx) {
    case 1:
        return symbols_of<n_layers, 1>(job);
    case 2:
        return symbols_of<n_layers, 2>(job);
    case 3:
        return symbols_of<n_layers, 3>(job);
    default:
        return symbols_of<n_layers, 4>(job);
    }
}

void symbols(const symbols_job& job)
{
    job.grid.n_layers == 1 ? symbols_of<1>(job) : symbols_of<2>(job);
}

constexpr float little = 0.02f;

void excess(const excess_job& job)
{
    for (int p = 0; p < job.n; p += lanes) {
        const vec ratio = (load(job.of + p) + little) * load(job.inverse + p);
        store(job.of + p,
              masked(logarithm(larger(ratio, all(little))) - job.whole, load(job.mask + p)));
    }
}

//! Each lane's numbers one after another to where it has a place.
template <int n>
inline void store_rows(const float (&of)[n][lanes], float* const (&to)[lanes])
{
    for (int q = 0; q < n; q += lanes) {
        const int first = q + lanes <= n ? q : n - lanes;
        vec rows[lanes];
#pragma GCC unroll 16
        for (int i = 0; i < lanes; i++)
            rows[i] = load(of[first + i]);
        transpose(rows);
#pragma GCC unroll 16
        for (int i = 0; i < lanes; i++)
            if (to[i])
                store(to[i] + first, rows[i]);
    }
}

template <int n_bits>
inline void llrs_of(llr_job& given, int l)
{
    const llr_job job = given; // which what is stored does not change
    vec noise{}, along{}, energy{}, all_sinr{};
    for (int p = 0; p < job.n; p += lanes) {
        const float* const judged = job.judged[l] + p;
        const vec factor = load(job.factor[l] + p), level = load(job.level[l] + p);
        const vec slope = load(judged), said = load(judged + job.judged_pitch);
        const vec doubt = exponential(smaller(larger(said, all(-50.0f)), all(-0.7f)));
        const ivec mask = load(job.mask + p);
        const bool all_data = job.all_data[p / most_lanes];
        alignas(64) float llr[2 * n_bits * prb][lanes];
        // one after the other, for a processor waits for results within them
        vec sinr[prb];
        for (int j = 0; j < prb; j++) {
            const vec log = load(job.log_sinr + (l * prb + j) * job.pitch + p);
            sinr[j] = exponential(log + factor + slope * (log - level));
        }
        for (int j = 0; j < prb; j++) {
            const float* x = job.x + (l * 2 * prb + j) * job.pitch + p;
            vec axis[2][n_bits];
            const moments re = demap<n_bits>(load(x), sinr[j], doubt, axis[0]),
                          im = demap<n_bits>(load(x + prb * job.pitch), sinr[j], doubt, axis[1]);
            const ivec data = all_data ? mask : load(job.data + j * job.data_pitch + p);
            noise += masked(re.noise + im.noise, data);
            along += masked(re.along + im.along, data);
            energy += masked(re.energy + im.energy, data);
            all_sinr += masked(sinr[j], data);
            for (int i = 0; i < 2 * n_bits; i++)
                store(llr[j * 2 * n_bits + i], axis[i % 2][i / 2]);
        }
        for (auto& of : llr)
            store(of, logarithm(load(of)));
        float* to[lanes]; // of each position that is a PRB
        int s = p / job.stride, n = p % job.stride;
        for (int i = 0; i < lanes; i++) {
            const long at = long(l * job.n_symbols + s) * job.n_prb + n;
            to[i] =
                s < job.n_symbols && n < job.n_prb ? job.llr + at * prb * job.llr_stride : nullptr;
            if (++n == job.stride) {
                n = 0;
                s++;
            }
        }
        if (job.llr_stride == 2 * n_bits)
            store_rows<2 * n_bits * prb>(llr, to);
        else
            for (int i = 0; i < lanes; i++)
                for (int j = 0; to[i] && j < prb; j++)
                    for (int b = 0; b < job.llr_stride; b++)
                        to[i][j * job.llr_stride + b] =
                            b < 2 * n_bits ? llr[j * 2 * n_bits + b][i] : 0.0f;
    }
    given.noise[l] = sum(noise);
    given.along[l] = sum(along);
    given.energy[l] = sum(energy);
    given.sinr[l] = sum(all_sinr);
}

void llrs(llr_job& job)
{
    for (int l = 0; l < job.n_layers; l++)
        switch (job.bits[l]) {
        case 2:
            llrs_of<1>(job, l);
            break;
        case 4:
            llrs_of<2>(job, l);
            break;
        case 6:
            llrs_of<3>(job, l);
            break;
        default:
            llrs_of<4>(job, l);
        }
}

// ---- Elementwise

void spread(const float* rows,
            const float* columns,
            int columns_pitch,
            int count,
            int n_rows,
            int stride,
            float* to,
            int pitch)
{
    for (int i = 0; i < count; i++, columns += columns_pitch, to += pitch)
        for (int s = 0; s < n_rows; s++) {
            const float row = rows ? *rows++ : 0.0f;
            for (int n = 0; n < stride; n += lanes) // a row's end is the next one's to write
                store(to + s * stride + n, row + load(columns + n));
        }
}

void steer(float* to, int pitch, const float* by, int by_pitch, int count, int n)
{
    for (int i = 0; i < count; i++, to += pitch, by += by_pitch)
        for (int p = 0; p < n; p += lanes)
            store(to + p, load(to + p) * load(by + p));
}

void subtract(float* to, const float* of, int pitch, const float* by, int count, int n)
{
    for (int i = 0; i < count; i++, to += pitch, of += pitch)
        for (int p = 0; p < n; p += lanes)
            store(to + p, load(to + p) - load(by + p) * load(of + p));
}

void half_log(float* x, int n)
{
    for (int i = 0; i < n; i += lanes)
        store(x + i, half_log_of(load(x + i)));
}

}} // namespace gr::deeprx

#define PUSCH_KERNEL(name)                                                                         \
    {                                                                                              \
        name, sum, fold, unfold, front, look, leftover, mix, unexplained, round, interference,     \
            whitener, time, symbols, excess, llrs, spread, steer, subtract, half_log               \
    }
