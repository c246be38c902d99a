/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "pusch_kernel.h"
#include "stage_clock.h"

namespace gr::deeprx {

/*!
 * \brief What each call of a kernel costs, from its shapes.
 *
 * A multiplication, an addition, a comparison, a division and a root are a FLOP each; an
 * exponential and a logarithm as many as their polynomials take. Bytes are those of planes that
 * come in and go out, and of weights; not of masks.
 */
//! \param of, to planes in one: 2 of pairs, 4 of quads
stage_cost cost_of(const sum_job& job, int of, int to);
stage_cost cost_of(const fold_job& job);
stage_cost cost_of(const unfold_job& job);
stage_cost cost_of(const front_job& job);
stage_cost cost_of(const look_job& job);
stage_cost cost_of(const leftover_job& job);
stage_cost cost_of(const mix_job& job);
stage_cost cost_of_unexplained(const grid_view& grid, int n_prb, int every);
stage_cost cost_of(const round_job& job);
stage_cost cost_of(const interference_job& job);
stage_cost cost_of(const whitener_job& job);
stage_cost cost_of(const time_job& job);
stage_cost cost_of(const symbols_job& job);
stage_cost cost_of(const excess_job& job);
stage_cost cost_of(const llr_job& job);
stage_cost cost_of_half_log(int n);
//! Least squares, delay, covariance. \param n pilots of a layer
stage_cost cost_of_pilots(int n_layers, int n_rx, int n);
//! Of n pilots of a layer.
stage_cost cost_of_whitening(int n_rx, int n);
//! Of n numbers, each from and to so many planes.
stage_cost cost_elementwise(int n, int flop, int planes);

//! Kernels of a receiver, which are stages where a clock is set.
class pusch_stages
{
public:
    pusch_stages(const pusch_kernel& kernel, const packed_kernel* packed)
        : d_kernel(kernel), d_packed(packed)
    {
    }
    void set_clock(stage_clock* clock) { d_clock = clock; }
    template <class... counter>
    stage_clock::scope stage(const char* name, const counter&... cost) const
    {
        return { d_clock, name, cost... };
    }
    //! Planes in one of those that nets of positions multiply.
    int together() const { return d_packed ? d_packed->together : 1; }

    float pack(const float* from, int pitch, int count, int n, float* to, int to_pitch) const
    {
        const auto timed = stage("pack", [=] { return cost_elementwise(count * n, 0, 2); });
        return d_packed->pack(from, pitch, count, n, to, to_pitch);
    }
    void sum_packed(const sum_job& job) const
    {
        const char* const name = together() == 2 ? "sum_pairs" : "sum_quads";
        sum(name, d_packed->sum, job, together(), 1);
    }
    void sum_to_pairs(const sum_job& job) const
    {
        sum("sum_to_pairs", d_packed->sum_to_pairs, job, 2, 2);
    }
    void sum(const sum_job& job) const { sum("sum", d_kernel.sum, job, 1, 1); }
    void fold(const fold_job& job) const { run("fold", d_kernel.fold, job); }
    void unfold(const unfold_job& job) const { run("unfold", d_kernel.unfold, job); }
    void front(const front_job& job) const { run("front", d_kernel.front, job); }
    void look(const look_job& job) const { run("look", d_kernel.look, job); }
    void leftover(leftover_job& job) const { run("leftover", d_kernel.leftover, job); }
    void mix(const mix_job& job) const { run("mix", d_kernel.mix, job); }
    float unexplained(const grid_view& grid,
                      const float* known,
                      int first,
                      int n_prb,
                      int from,
                      int every,
                      const int32_t* mask) const
    {
        const auto timed =
            stage("unexplained", [&] { return cost_of_unexplained(grid, n_prb, every); });
        return d_kernel.unexplained(grid, known, first, n_prb, from, every, mask);
    }
    void round(round_job& job) const { run("round", d_kernel.round, job); }
    void interference(const interference_job& job) const
    {
        run("interference", d_kernel.interference, job);
    }
    void whitener(const whitener_job& job) const { run("whitener", d_kernel.whitener, job); }
    void time(const time_job& job) const { run("time", d_kernel.time, job); }
    void symbols(const symbols_job& job) const { run("symbols", d_kernel.symbols, job); }
    void excess(const excess_job& job) const { run("excess", d_kernel.excess, job); }
    void llrs(llr_job& job) const { run("llrs", d_kernel.llrs, job); }
    void spread(const float* rows,
                const float* columns,
                int columns_pitch,
                int count,
                int n_rows,
                int stride,
                float* to,
                int pitch) const
    {
        const auto timed =
            stage("spread", [=] { return cost_elementwise(count * n_rows * stride, 1, 1); });
        d_kernel.spread(rows, columns, columns_pitch, count, n_rows, stride, to, pitch);
    }
    void steer(float* to, int pitch, const float* by, int by_pitch, int count, int n) const
    {
        const auto timed = stage("steer", [=] { return cost_elementwise(count * n, 1, 3); });
        d_kernel.steer(to, pitch, by, by_pitch, count, n);
    }
    void subtract(float* to, const float* from, int pitch, const float* by, int count, int n) const
    {
        const auto timed = stage("subtract", [=] { return cost_elementwise(count * n, 2, 3); });
        d_kernel.subtract(to, from, pitch, by, count, n);
    }
    void half_log(float* x, int n) const
    {
        const auto timed = stage("half_log", [=] { return cost_of_half_log(n); });
        d_kernel.half_log(x, n);
    }

private:
    template <class job_type>
    void run(const char* name, void (*kernel)(job_type&), job_type& job) const
    {
        const auto timed = stage(name, [&] { return cost_of(job); });
        kernel(job);
    }
    void sum(const char* name,
             void (*kernel)(const sum_job&),
             const sum_job& job,
             int from,
             int to) const
    {
        const auto timed = stage(name, [&] { return cost_of(job, from, to); });
        kernel(job);
    }

    const pusch_kernel& d_kernel;
    const packed_kernel* const d_packed;
    stage_clock* d_clock = nullptr;
};

} // namespace gr::deeprx
