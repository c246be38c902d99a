/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace gr::deeprx {

void engine::prepare(int batch)
{
    infer(batch); // the executor profiles
    infer(batch); // and compiles
}

std::vector<double> engine::warm_up(const std::vector<int>& batch_sizes)
{
    using clock = std::chrono::steady_clock;
    std::vector<double> seconds;
    for (const int batch : batch_sizes) {
        prepare(batch);
        // The fastest of some: what else runs must not make a size look slow.
        double best = HUGE_VAL;
        double total = 0.0;
        for (int run = 0; run < 2 || (run < 10 && total < 20e-3); run++) {
            const auto start = clock::now();
            infer(batch);
            const double took = std::chrono::duration<double>(clock::now() - start).count();
            best = std::min(best, took);
            total += took;
        }
        seconds.push_back(best);
    }
    return seconds;
}

} // namespace gr::deeprx
