/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_costs.h"

namespace gr::deeprx {

namespace {

constexpr double product = 6.0, to_sum = 8.0;          // of complex numbers
constexpr double exponential = 17.0, logarithm = 23.0; // equaliser_loops.h

stage_cost floats(double flop, double n) { return { flop, n * sizeof(float) }; }

} // namespace

stage_cost cost_of_pilots(const pilot_layout& layout, int n_rx)
{
    const double n = double(layout.n_layers()) * layout.dmrs.size() * layout.n_pilots();
    const double of_antenna = 2 * to_sum + product + 2 * (3 + 2);
    return floats(n * n_rx * (of_antenna + to_sum * (n_rx + 1) / 2), n * (4 * n_rx + 2));
}

stage_cost cost_of_planes(const pilot_layout& layout, int n_rx, int n_times)
{
    const double n = double(layout.n_layers()) * n_rx * n_times * layout.n_subcarriers;
    return floats(n * (product + 3), n * 3);
}

stage_cost cost_of_low_pass(const pilot_layout& layout, int n_taps)
{
    const double n = double(layout.n_layers()) * layout.n_pilots();
    return floats(n * 2 * (2 * n_taps + 2 * 2), n * 2 * (1 + 2));
}

stage_cost cost_of(const symbol_job& job)
{
    const double n_rx = job.n_rx, n_layers = job.n_layers, n = job.n_subcarriers;
    const double channel = n_layers * n_rx * product; // between two times
    const double weighing = job.zero_forcing ? 0.0 : n_layers * n_rx * n_rx * to_sum;
    const double inner = (n_layers * 2 + (n_layers == 2 ? 1 : 0)) * n_rx * to_sum;
    double flop = n_rx * product + channel + weighing + inner + n_layers * 8 +
                  (n_layers == 2 ? 2 * (2 * product + 8) : 0.0);
    for (int l = 0; l < job.n_layers; l++) {
        const double levels = 1 << job.bits[l] / 2;
        const double of_bit = job.max_log ? levels : levels * (3 + exponential) + logarithm + 3;
        flop += job.bits[l] == 2 ? 6.0 : 2 * 3 * levels + job.bits[l] * of_bit;
        if (job.llr_limit[l] > 0.0f)
            flop += 6.0 * job.bits[l];
    }
    return floats(n * flop, n * (2 * n_rx + 4 * n_layers * n_rx + n_layers * job.llr_stride));
}

} // namespace gr::deeprx
