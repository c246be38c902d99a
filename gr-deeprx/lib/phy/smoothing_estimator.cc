/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "smoothing_estimator.h"

#include "classical_costs.h"
#include "side_by_side.h"

#include <algorithm>
#include <cmath>
#include <complex>

namespace gr::deeprx {

namespace {

constexpr int widths[]{ 1, 3, 7, 15, 31 }; // pilots

/*!
 * \brief Oracle-approximating shrinkage towards white noise (Chen, Wiesel, Eldar, Hero, IEEE TSP
 * 58(10), 2010): as far as the sampling error asks for.
 */
template <class Matrix>
void shrink(Matrix& covariance, int n, double samples)
{
    double trace = 0.0, square = 0.0;
    for (int r = 0; r < n; r++) {
        trace += covariance[r][r].real();
        for (int q = 0; q < n; q++)
            square += std::norm(covariance[r][q]);
    }
    const double excess = std::max(square - trace * trace / n, 1e-200);
    const double rho = std::clamp(((1.0 - 2.0 / n) * square + trace * trace) /
                                      ((samples + 1.0 - 2.0 / n) * excess),
                                  0.0,
                                  1.0);
    for (int r = 0; r < n; r++)
        for (int q = 0; q < n; q++)
            covariance[r][q] = (1.0 - rho) * covariance[r][q] + (r == q ? rho * trace / n : 0.0);
}

} // namespace

smoothing_estimator::smoothing_estimator(const pilot_layout& layout,
                                         int n_rx,
                                         bool sure,
                                         const equaliser_kernel& kernel)
    : channel_estimator(layout, n_rx, layout.dmrs), d_layout(layout), d_n_rx(n_rx), d_sure(sure),
      d_kernel(kernel), d_n_times(static_cast<int>(layout.dmrs.size())),
      d_n_pilots(layout.n_pilots()), d_margin(sure ? std::end(widths)[-1] / 2 : 0),
      d_row(d_n_pilots + 2 * d_margin), d_rows(layout.n_layers() * n_rx * d_n_times * 2 * d_row),
      d_smooth(layout.n_layers() * d_n_times * d_n_pilots), d_fitted(d_n_pilots),
      d_differences(2 * n_rx * d_n_pilots), d_turns(layout.n_layers() * 2 * layout.n_subcarriers)
{
    for (const int width : widths)
        if (sure && (width > 1 || !layout.paired())) // one pilot cannot tell two users apart
            d_windows.push_back(make_window(width));
    d_fits.push_back(make_fit(d_n_times - 1));
    if (d_n_times > 2)
        d_fits.insert(d_fits.end(), { make_fit(0), make_fit(1) });
    d_risks.resize(d_windows.size() * d_fits.size());
}

smoothing_estimator::window smoothing_estimator::make_window(int width) const
{
    window w;
    double sum = 0.0;
    const int half = width / 2;
    for (int i = 0; i < width; i++) {
        w.taps.push_back(std::pow(std::sin(M_PI * (i + 1) / (width + 1)), 2));
        sum += w.taps.back();
    }
    for (float& tap : w.taps)
        tap /= sum;
    double trace = 0.0;
    for (int pilot = 0; pilot < d_n_pilots; pilot++) {
        const int first = std::max(0, pilot - half);
        const int last = std::min(d_n_pilots - 1, pilot + half);
        if (last - first + 1 == width) {
            trace += w.taps[half];
            continue;
        }
        // What is left of the window sums to 1; so that it removes a user of alternating signs, its
        // even and its odd pilots weigh the same, as they do in a whole Hann window.
        double weight[2]{};
        const auto parity = [&](int i) { return d_layout.paired() ? i & 1 : 0; };
        for (int i = first; i <= last; i++)
            weight[parity(i)] += w.taps[half + i - pilot];
        const double share = d_layout.paired() ? 0.5 : 1.0;
        window::edge e{ pilot, first, {} };
        for (int i = first; i <= last; i++)
            e.taps.push_back(share * w.taps[half + i - pilot] / weight[parity(i)]);
        trace += e.taps[pilot - first];
        w.edges.push_back(std::move(e));
    }
    w.trace = trace / d_n_pilots;
    return w;
}

//! Least squares with a polynomial over the DMRS symbols: 0 a constant, 1 a line; else what is.
smoothing_estimator::fit smoothing_estimator::make_fit(int degree) const
{
    const int n = d_n_times;
    const std::vector<int>& times = d_layout.dmrs;
    double mean = 0.0, spread = 0.0;
    for (const int t : times)
        mean += static_cast<double>(t) / n;
    for (const int t : times)
        spread += (t - mean) * (t - mean);
    fit f{ std::vector<float>(n * n), static_cast<float>(std::min(degree + 1, n)) / n };
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const double line = (times[i] - mean) * (times[j] - mean);
            f.weights[i * n + j] = degree == 0   ? 1.0 / n
                                   : degree == 1 ? 1.0 / n + line / spread
                                                 : i == j;
        }
    return f;
}

void smoothing_estimator::smooth(const window& w, const float* from, float* to) const
{
    const int half = static_cast<int>(w.taps.size()) / 2;
    const int whole = d_n_pilots - 2 * half;
    if (whole > 0)
        d_kernel.filter(from, w.taps.data(), static_cast<int>(w.taps.size()), to + half, whole);
    for (const auto& [pilot, first, taps] : w.edges) {
        float sum = 0.0f;
        for (size_t i = 0; i < taps.size(); i++)
            sum += taps[i] * from[first + i];
        to[pilot] = sum;
    }
}

void smoothing_estimator::update(const float* grid, const float* pilots)
{
    const stage_clock::scope stage(
        clock, "pilots", [this] { return cost_of_pilots(d_layout, d_n_rx); });
    match(grid, pilots);
    take_out_delay();
    estimate_noise();
    if (d_sure) {
        const stage_clock::scope smoothing(clock, "windows", [this] { return cost_of_windows(); });
        if (d_layout.paired())
            smooth_best(0, 2);
        else
            for (int layer = 0; layer < d_layout.n_layers(); layer++)
                smooth_best(layer, 1);
    }
    const stage_clock::scope between(
        clock, "between", [this] { return cost_of_planes(d_layout, d_n_rx, d_n_times); });
    for (int layer = 0; layer < d_layout.n_layers(); layer++)
        between_pilots(layer);
}

stage_cost smoothing_estimator::cost_of_windows() const
{
    double taps = 0.0; // all windows, and then the best
    for (const window& w : d_windows)
        taps += w.taps.size();
    taps += taps / d_windows.size();
    const double n = 2.0 * d_layout.n_layers() * d_n_rx * d_n_times * d_n_pilots;
    const double fits = d_windows.size() * d_fits.size() * (2.0 * d_n_times + 3);
    return { n * (2 * taps + fits), n * sizeof(float) * 2 * (d_windows.size() + 1) };
}

//! Received pilots over sent ones.
void smoothing_estimator::match(const float* grid, const float* pilots)
{
    const int symbol_floats = 2 * d_layout.n_subcarriers;
    const float power = 1.0f / d_layout.cdm_groups;
    for (int layer = 0; layer < d_layout.n_layers(); layer++)
        for (int antenna = 0; antenna < d_n_rx; antenna++)
            for (int time = 0; time < d_n_times; time++) {
                const int at =
                    d_layout.dmrs[time] * symbol_floats + 2 * d_layout.first_pilot(layer);
                const float* y = grid + antenna * d_layout.n_symbols * symbol_floats + at;
                const float* p = pilots + layer * d_layout.n_symbols * symbol_floats + at;
                const int row = row_of(layer, antenna, time);
                float *re = pilots_of(row, 0), *im = pilots_of(row, 1);
                for (int i = 0; i < d_n_pilots; i++) {
                    const float p_re = p[4 * i] * power, p_im = p[4 * i + 1] * power;
                    re[i] = y[4 * i] * p_re + y[4 * i + 1] * p_im;
                    im[i] = y[4 * i + 1] * p_re - y[4 * i] * p_im;
                }
            }
}

void smoothing_estimator::take_out_delay()
{
    const int apart = d_layout.paired() ? 2 : 1;
    for (int layer = 0; layer < d_layout.n_layers(); layer++) {
        double sum_re = 0.0, sum_im = 0.0;
        for (int row = row_of(layer, 0, 0); row < row_of(layer + 1, 0, 0); row++) {
            const float *re = pilots_of(row, 0), *im = pilots_of(row, 1);
            sum_re += sum_side_by_side(d_n_pilots - apart, [=](int i) {
                return re[i + apart] * re[i] + im[i + apart] * im[i];
            });
            sum_im += sum_side_by_side(d_n_pilots - apart, [=](int i) {
                return im[i + apart] * re[i] - re[i + apart] * im[i];
            });
        }
        const double step = std::atan2(sum_im, sum_re) / (2 * apart);
        const int n_sc = d_layout.n_subcarriers;
        float* turn_re = &d_turns[2 * layer * n_sc];
        float* turn_im = turn_re + n_sc;
        std::complex<double> turn = std::polar(1.0, -step * (n_sc / 2));
        const std::complex<double> on = std::polar(1.0, step);
        for (int k = 0; k < n_sc; k++) {
            turn_re[k] = turn.real();
            turn_im[k] = turn.imag();
            turn = { turn.real() * on.real() - turn.imag() * on.imag(),
                     turn.real() * on.imag() + turn.imag() * on.real() };
        }
        const int first = d_layout.first_pilot(layer);
        for (int row = row_of(layer, 0, 0); row < row_of(layer + 1, 0, 0); row++) {
            float *re = pilots_of(row, 0), *im = pilots_of(row, 1);
            for (int i = 0; i < d_n_pilots; i++) {
                const float c = turn_re[2 * i + first], s = turn_im[2 * i + first];
                const float turned = re[i] * c + im[i] * s;
                im[i] = im[i] * c - re[i] * s;
                re[i] = turned;
            }
        }
    }
}

void smoothing_estimator::estimate_noise()
{
    const int apart = d_layout.paired() ? 2 : 1;
    const int n_layers = d_layout.paired() ? 1 : d_layout.n_layers();
    const int n = d_n_pilots - 2 * apart;
    auto& covariance = estimate.covariance;
    covariance = {};
    double power = 0.0;
    for (int layer = 0; layer < n_layers; layer++)
        for (int time = 0; time < d_n_times; time++) {
            for (int r = 0; r < d_n_rx; r++)
                for (int part = 0; part < 2; part++) {
                    const float* z = pilots_of(row_of(layer, r, time), part);
                    float* to = &d_differences[(2 * r + part) * d_n_pilots];
                    for (int i = 0; i < n; i++)
                        to[i] = z[i] - 2 * z[i + apart] + z[i + 2 * apart];
                    power += sum_side_by_side(n, [=](int i) { return z[i] * z[i]; });
                }
            for (int r = 0; r < d_n_rx; r++)
                for (int q = 0; q <= r; q++) {
                    const float *a = &d_differences[2 * r * d_n_pilots], *b = a + d_n_pilots;
                    const float *c = &d_differences[2 * q * d_n_pilots], *d = c + d_n_pilots;
                    covariance[r][q] += std::complex<double>(
                        sum_side_by_side(n, [=](int i) { return a[i] * c[i] + b[i] * d[i]; }),
                        sum_side_by_side(n, [=](int i) { return b[i] * c[i] - a[i] * d[i]; }));
                }
        }
    const int samples = n_layers * d_n_times * n;
    for (int r = 0; r < d_n_rx; r++)
        for (int q = 0; q <= r; q++) {
            // a second difference has six times the noise of a pilot
            covariance[r][q] *= d_layout.cdm_groups / (6.0 * samples);
            covariance[q][r] = std::conj(covariance[r][q]);
        }
    // second differences of white noise are correlated, 6 to -4 to 1: they count as so many fewer
    shrink(covariance, d_n_rx, samples * 18.0 / 35.0);
    // without noise, rounding errors would be taken for an interferer
    const double least = 1e-10 * d_layout.cdm_groups * power / (d_n_rx * samples);
    for (int r = 0; r < d_n_rx; r++)
        covariance[r][r] += least;
}

//! All times of one part of a layer's pilots at an antenna.
void smoothing_estimator::smooth(const window& w, int layer, int antenna, int part)
{
    for (int time = 0; time < d_n_times; time++)
        smooth(w,
               pilots_of(row_of(layer, antenna, time), part),
               &d_smooth[(layer * d_n_times + time) * d_n_pilots]);
}

//! \param rows of all times. Into d_fitted.
void smoothing_estimator::apply(const fit& f, const float* rows, int time)
{
    std::fill(d_fitted.begin(), d_fitted.end(), 0.0f);
    for (int from = 0; from < d_n_times; from++) {
        const float weight = f.weights[time * d_n_times + from];
        if (weight != 0.0f)
            for (int i = 0; i < d_n_pilots; i++)
                d_fitted[i] += weight * rows[from * d_n_pilots + i];
    }
}

/*!
 * \brief Smooths the pilots of layers that share them as SURE finds best: of a linear smoother H of
 * z = h + n it is |z - H z|^2 + 2 n0 tr(H), up to terms without H. Two users' estimates together
 * are one of the pilots that both sent.
 */
void smoothing_estimator::smooth_best(int first_layer, int n_layers)
{
    std::fill(d_risks.begin(), d_risks.end(), 0.0);
    float* const rows = &d_smooth[first_layer * d_n_times * d_n_pilots];
    for (size_t w = 0; w < d_windows.size(); w++)
        for (int antenna = 0; antenna < d_n_rx; antenna++) {
            for (int part = 0; part < 2; part++) {
                for (int layer = first_layer; layer < first_layer + n_layers; layer++)
                    smooth(d_windows[w], layer, antenna, part);
                if (n_layers == 2) {
                    const float* second = rows + d_n_times * d_n_pilots;
                    for (int i = 0; i < d_n_times * d_n_pilots; i += 2) {
                        rows[i] += second[i];
                        rows[i + 1] -= second[i + 1];
                    }
                }
                for (size_t f = 0; f < d_fits.size(); f++) {
                    double residual = 0.0;
                    for (int time = 0; time < d_n_times; time++) {
                        const float* z = pilots_of(row_of(first_layer, antenna, time), part);
                        apply(d_fits[f], rows, time);
                        residual += sum_side_by_side(d_n_pilots, [this, z](int i) {
                            const float left = z[i] - d_fitted[i];
                            return left * left;
                        });
                    }
                    d_risks[w * d_fits.size() + f] += residual / (d_n_times * d_n_pilots);
                }
            }
            const double noise = estimate.covariance[antenna][antenna].real() / d_layout.cdm_groups;
            for (size_t f = 0; f < d_fits.size(); f++)
                d_risks[w * d_fits.size() + f] +=
                    2 * noise * n_layers * d_windows[w].trace * d_fits[f].trace;
        }
    const auto best = std::min_element(d_risks.begin(), d_risks.end()) - d_risks.begin();
    const window& w = d_windows[best / d_fits.size()];
    const fit& f = d_fits[best % d_fits.size()];
    for (int layer = first_layer; layer < first_layer + n_layers; layer++)
        for (int antenna = 0; antenna < d_n_rx; antenna++)
            for (int part = 0; part < 2; part++) {
                smooth(w, layer, antenna, part);
                for (int time = 0; time < d_n_times; time++) {
                    apply(f, &d_smooth[layer * d_n_times * d_n_pilots], time);
                    std::copy(d_fitted.begin(),
                              d_fitted.end(),
                              pilots_of(row_of(layer, antenna, time), part));
                }
            }
}

//! Pilots to all subcarriers, and the delay put back.
void smoothing_estimator::between_pilots(int layer)
{
    const int n_sc = d_layout.n_subcarriers, n = d_n_pilots;
    const int first = d_layout.first_pilot(layer);
    const float *c = &d_turns[2 * layer * n_sc], *s = c + n_sc;
    for (int antenna = 0; antenna < d_n_rx; antenna++)
        for (int time = 0; time < d_n_times; time++) {
            float* h[2];
            for (int part = 0; part < 2; part++) {
                const float* z = pilots_of(row_of(layer, antenna, time), part);
                // on their own subcarriers, as if the first were subcarrier 0
                float* to = h[part] =
                    estimate.plane(layer, antenna, time) + part * estimate.stride();
                to += first;
                if (d_sure) {
                    for (int i = 0; i < n - 1; i++) {
                        to[2 * i] = z[i];
                        to[2 * i + 1] = (z[i] + z[i + 1]) / 2;
                    }
                    to[2 * n - 2] = z[n - 1];
                } else {
                    to[0] = (z[0] + z[1]) / 2;
                    for (int i = 1; i < n - 1; i++) {
                        to[2 * i - 1] = (z[i - 1] + z[i]) / 2;
                        to[2 * i] = (z[i - 1] + 2 * z[i] + z[i + 1]) / 4;
                    }
                    to[2 * n - 3] = to[2 * n - 2] = (z[n - 2] + z[n - 1]) / 2;
                }
                if (first == 1)
                    h[part][0] = h[part][1];
                else
                    h[part][n_sc - 1] = h[part][n_sc - 2];
            }
            for (int k = 0; k < n_sc; k++) {
                const float re = h[0][k] * c[k] - h[1][k] * s[k];
                h[1][k] = h[0][k] * s[k] + h[1][k] * c[k];
                h[0][k] = re;
            }
        }
}

} // namespace gr::deeprx
