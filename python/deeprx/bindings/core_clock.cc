/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "core_clock.h"

#include <algorithm>
#include <chrono>

std::optional<double> core_clock_hz()
{
#ifdef __x86_64__
    using clock = std::chrono::steady_clock;
    constexpr int runs = 10, links = 1000, cycles = 3;
    double best = 1.0;
    unsigned x = 3;
    for (int run = 0; run < runs; run++) { // whoever interrupts makes a run longer, never shorter
        const auto start = clock::now();
        for (int i = 0; i < links; i += 10)
            asm volatile("imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0;"
                         "imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0; imul %0, %0;"
                         : "+r"(x));
        best = std::min(best, std::chrono::duration<double>(clock::now() - start).count());
    }
    return cycles * links / best;
#else
    return std::nullopt;
#endif
}
