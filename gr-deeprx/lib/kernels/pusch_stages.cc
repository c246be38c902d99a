/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_stages.h"

namespace gr::deeprx {

namespace {

constexpr double prb = 12.0, product = 6.0, to_sum = 8.0; // of complex numbers
constexpr double exponential = 17.0, logarithm = 19.0;    // vectors.h

stage_cost floats(double flop, double n) { return { flop, n * sizeof(float) }; }

//! Of a RE.
double combining(const grid_view& grid)
{
    const double n_rx = grid.n_rx, n_layers = grid.n_layers;
    const double whitening = 2 * n_rx + 4 * n_rx * (n_rx - 1);
    const double apart = to_sum * n_rx + 5 * product + 7; // two layers, from one another
    return (grid.white ? (1 + n_layers) * whitening : 0.0) + n_layers * (12 * n_rx + 4) +
           (n_layers == 2 ? apart : 0.0);
}

//! Planes that it reads.
double planes_of(const grid_view& grid)
{
    return 2 * prb * grid.n_rx * (1 + grid.n_layers) + (grid.n_layers == 2 ? 2 * prb : 0.0) +
           (grid.white ? grid.n_rx * grid.n_rx : 0.0);
}

//! Of an axis: an exponential for two levels, products, and a mean of squares.
double second_moment(int levels)
{
    const double n = levels / 2;
    return n * (exponential + 4) + (n - 1) * 8 + levels * 5 + 2;
}

double all_bits(const int (&bits)[2], int n_layers)
{
    return bits[0] + (n_layers == 2 ? bits[1] : 0);
}

} // namespace

stage_cost cost_elementwise(int n, int flop, int planes)
{
    return floats(double(n) * flop, double(n) * planes);
}

stage_cost cost_of_half_log(int n) { return floats(n * (logarithm + 2), 2.0 * n); }

stage_cost cost_of_pilots(int n_layers, int n_rx, int n)
{
    const double per_antenna = 2 * to_sum + product + 2 * (2 + 3);
    return floats(n_layers * n_rx * n * (per_antenna + to_sum * (n_rx + 1) / 2),
                  n_layers * n * (4 * n_rx + 2));
}

stage_cost cost_of_whitening(int n_rx, int n)
{
    return floats(n_rx * n * to_sum * (n_rx + 1) / 2, 4.0 * n_rx * n);
}

stage_cost cost_of(const sum_job& job, int of, int to)
{
    double outputs = 0.0, weights = 0.0;
    for (int i = 0; i < job.n_tiles; i++) {
        outputs += job.tiles[i].n_outputs;
        weights += double(job.tiles[i].n_outputs) * job.tiles[i].n_terms;
    }
    const int beside = (job.more ? 1 : 0) + (job.scale ? 1 : 0);
    stage_cost cost =
        floats(job.n * (2 * of * weights + outputs * (beside + (job.relu ? 1 : 0))),
               job.n * (job.n_from + outputs * (1 + beside) / to) + weights + outputs);
    cost.precision = of == 1 ? "float32" : of == 2 ? "bfloat16" : "int8";
    return cost;
}

stage_cost cost_of(const fold_job& job)
{
    const double n = double(job.n_planes) * job.n_quads * job.stride;
    return floats(n * 19, n * (folded_rows + n_folds));
}

stage_cost cost_of(const unfold_job& job)
{
    const double n = double(job.n_planes) * job.n_quads * job.stride;
    return floats(n * (13 + folded_rows * ((job.more ? 1 : 0) + (job.relu ? 1 : 0))),
                  n * (n_folds + folded_rows * (job.more ? 2 : 1)));
}

stage_cost cost_of(const front_job& job)
{
    const double n_rx = job.n_rx, n = prb * job.n_prb;
    return floats(n * n_rx * (to_sum * (n_rx + 1) / 2 + product), n * (4 * n_rx + 2));
}

stage_cost cost_of(const look_job& job)
{
    const double rows = prb * job.n_rx * job.n_dmrs * job.n_prb; // of real numbers
    return floats(rows * (3 * (job.n_windows - 1) + 6), rows * (1 + job.n_windows));
}

stage_cost cost_of(const leftover_job& job)
{
    const double rows = prb * job.n_rx * job.n_dmrs * job.n_prb;
    return floats(rows * job.n_windows * job.n_fits * (2 * job.n_dmrs + 2),
                  rows * (1 + job.n_windows * (job.other ? 2 : 1)));
}

stage_cost cost_of(const mix_job& job)
{
    const double pilots = prb * job.n_rx * job.n_prb; // real numbers of a symbol
    const double terms = job.n_modes * job.n_dmrs;
    return floats(pilots * 2 * terms * (job.n_windows + job.n_symbols) + 2 * pilots * job.n_symbols,
                  pilots * job.n_windows * job.n_dmrs +
                      double(job.n_modes) * job.n_windows * job.n_prb + 2 * pilots * job.n_symbols);
}

stage_cost cost_of_unexplained(const grid_view& grid, int n_prb, int every)
{
    const double n = prb / every * n_prb;
    return floats(n * (grid.n_rx * (to_sum * grid.n_layers + 4) + product * (grid.n_layers - 1)),
                  n * 2 * (grid.n_rx * (1 + grid.n_layers) + 2 * grid.n_layers - 1));
}

stage_cost cost_of(const round_job& job)
{
    const double n_rx = job.grid.n_rx, n_layers = job.grid.n_layers;
    const double soft = 8 * all_bits(job.grid.bits, job.grid.n_layers) + 12 * n_layers;
    const double left = to_sum * n_layers * n_rx + 4 * n_rx + 4 * n_rx * (n_rx - 1);
    const double seen = n_rx * n_layers * (product + 2 + 4 * job.basis);
    double errors = 0.0;
    for (int l = 0; job.noise && l < n_layers; l++)
        errors += 2 * (second_moment(std::min(1 << job.grid.bits[l] / 2, 4)) + 10) + 2 * n_rx +
                  4 * n_rx * n_rx;
    return floats(job.grid.n * (prb * (combining(job.grid) + soft + left + seen + errors) +
                                4 * n_layers * (logarithm + 2)),
                  job.grid.n * (planes_of(job.grid) + 2 * n_rx * n_layers * (prb + job.basis) +
                                n_seen * n_layers + (job.noise ? 2 : 1) * n_rx * n_rx));
}

stage_cost cost_of(const interference_job& job)
{
    const double numbers = job.n_rx * job.n_rx, n = job.n_prb;
    return floats(n * (numbers * (job.n_symbols + 14 + 4 * 4) + 4 * 2 * logarithm),
                  n * (numbers * (job.n_symbols + 4) + 11));
}

stage_cost cost_of(const whitener_job& job)
{
    const double numbers = job.n_rx * job.n_rx, n = job.n_prb;
    return floats(n * (5 * (exponential + 2) + 9 * numbers + 8 * numbers * job.n_rx),
                  n * (5 + 5 * numbers));
}

stage_cost cost_of(const time_job& job)
{
    const int half = job.n_taps / 2; // of which some reach beyond the slot
    const double taps = job.n_taps - double(half) * (half + 1) / job.n_symbols;
    const double n = double(job.n_filters) * job.n_symbols * job.stride;
    return floats(n * (2 * taps + 2), 5 * n);
}

stage_cost cost_of(const symbols_job& job)
{
    const int n_layers = job.grid.n_layers;
    double noise = 0.0;
    for (int l = 0; l < n_layers; l++)
        noise += 2 * second_moment(1 << job.grid.bits[l] / 2);
    return floats(job.grid.n * prb * (combining(job.grid) + n_layers * (logarithm + 5) + noise),
                  job.grid.n * (planes_of(job.grid) + n_layers * (3 * prb + 3)));
}

stage_cost cost_of(const excess_job& job) { return floats(job.n * (logarithm + 4), 3.0 * job.n); }

stage_cost cost_of(const llr_job& job)
{
    double flop = 0.0;
    for (int l = 0; l < job.n_layers; l++) {
        const int bits = job.bits[l];
        const double levels = 1 << bits / 2, of_bit = levels + 4 + logarithm;
        flop +=
            exponential + 4 + 2 * (second_moment(levels) + 3.5 * levels + 4) + bits * of_bit + 6;
    }
    return floats(job.n * prb * flop,
                  job.n * (job.n_layers * (3 * prb + 4) + prb * job.n_layers * job.llr_stride));
}

} // namespace gr::deeprx
