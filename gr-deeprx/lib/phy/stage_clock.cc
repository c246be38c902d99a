/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "stage_clock.h"

#include <algorithm>
#include <utility>

namespace gr::deeprx {

stage_clock::stage_clock()
{
    constexpr int n = 1000;
    const auto start = clock::now();
    for (int i = 1; i < n; i++)
        clock::now();
    d_read_s = std::chrono::duration<double>(clock::now() - start).count() / n;
}

//! Time that has gone by is that of the stage at hand.
void stage_clock::pass()
{
    const auto now = clock::now();
    if (d_now >= 0)
        d_nodes[d_now].seconds += std::chrono::duration<double>(now - d_since).count() - d_read_s;
    d_since = now;
}

void stage_clock::begin(const char* name, const stage_cost& cost)
{
    pass();
    auto at = std::find_if(d_nodes.begin(), d_nodes.end(), [&](const node& n) {
        return n.name == name && n.within == d_now && n.precision == cost.precision;
    });
    if (at == d_nodes.end())
        at = d_nodes.insert(at, node{ name, d_now, cost.precision });
    at->calls++;
    at->flop += cost.flop;
    at->bytes += cost.bytes;
    d_now = static_cast<int>(at - d_nodes.begin());
}

void stage_clock::end()
{
    pass();
    d_now = d_nodes[d_now].within;
}

std::vector<stage_clock::stage> stage_clock::stages() const
{
    std::vector<stage> all;
    for (const node& n : d_nodes) {
        std::string name = n.name;
        for (int i = n.within; i >= 0; i = d_nodes[i].within)
            name = std::string(d_nodes[i].name) + ": " + name;
        all.push_back(
            { std::move(name), n.precision, n.calls, n.flop, n.bytes, std::max(n.seconds, 0.0) });
    }
    return all;
}

} // namespace gr::deeprx
