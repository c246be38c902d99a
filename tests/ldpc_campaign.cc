/* SPDX-License-Identifier: GPL-3.0-or-later */

// How far the decoder is behind 20 iterations of belief propagation (cpp/belief_propagation.h,
// which fails where Sionna's does): at the Es/N0 where that leaves about one block in a hundred
// wrong, and so many dB above it. QPSK through white noise.
//
//     build/tests/ldpc_campaign ERRORS [POINT]
//
// runs all points, or one, until each has so many block errors (200: half an hour). Without ERRORS,
// the decoder alone is compared with what the reference had in a whole run. It fails where the
// decoder is worse beyond chance.

#include "cpp/belief_propagation.h"
#include "ldpc_decoder.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <random>

using namespace gr::deeprx;

namespace {

struct count {
    int errors = 0, blocks = 0;
    double rate() const { return double(errors) / blocks; }
};

struct point {
    int base_graph;
    double code_rate, es_n0_db, behind_db;
    count reference; // of a whole run
};

constexpr int lifting_size = 384;
const point points[]{
    { 1, 1 / 3.0, -1.17, 0.15, { 12, 1361 } }, { 1, 1 / 2.0, 1.195, 0.15, { 60, 5282 } },
    { 1, 2 / 3.0, 3.25, 0.10, { 60, 6104 } },  { 1, 0.9, 6.56, 0.10, { 60, 6088 } },
    { 2, 1 / 5.0, -3.66, 0.25, { 60, 4320 } }, { 2, 1 / 3.0, -0.99, 0.15, { 60, 5839 } },
    { 2, 1 / 2.0, 1.35, 0.15, { 60, 6259 } },  { 2, 2 / 3.0, 3.38, 0.10, { 60, 5188 } },
};
constexpr int n_points = std::size(points);

//! LLRs positive for 0, of all bits that are sent at this rate.
class channel
{
public:
    channel(const ldpc_code& code, double code_rate, double es_n0_db)
        : bits(code.n()), llr(code.n()), d_code(code), d_es(std::pow(10, es_n0_db / 10)),
          d_first(2 * code.lifting_size()),
          d_last(std::min<int>(code.n(), d_first + std::lround(code.k() / code_rate)))
    {
    }
    void send()
    {
        for (int i = 0; i < d_code.k(); i++)
            bits[i] = d_random() & 1;
        d_code.encode(bits.data());
        for (int i = d_first; i < d_last; i++)
            llr[i] = 2 * ((bits[i] ? -d_es : d_es) + std::sqrt(d_es) * d_normal(d_random));
    }
    std::vector<uint8_t> bits;
    std::vector<float> llr;

private:
    const ldpc_code& d_code;
    const float d_es;
    const int d_first, d_last;
    std::mt19937 d_random{ 1 };
    std::normal_distribution<float> d_normal;
};

template <class F>
count run(const point& p, double es_n0_db, int errors, F decodes)
{
    const ldpc_code code(p.base_graph, lifting_size);
    channel c(code, p.code_rate, es_n0_db);
    count result;
    for (; result.errors < errors; result.blocks++) {
        c.send();
        result.errors += !decodes(code, c);
    }
    return result;
}

} // namespace

int main(int argc, char** argv)
{
    const bool whole = argc > 1;
    const int errors = whole ? std::atoi(argv[1]) : 10;
    const int only = argc > 2 ? std::atoi(argv[2]) : 0;
    if (errors < 1 || only < 0 || only > n_points) {
        std::fprintf(
            stderr, "usage: ldpc_campaign [ERRORS [POINT]], of points 1 to %d\n", n_points);
        return 2;
    }
    bool good = true;
    for (int i = 0; i < n_points; i++) {
        if (only && only != i + 1)
            continue;
        const point& p = points[i];
        count reference = p.reference;
        if (whole)
            reference = run(p, p.es_n0_db, errors, [](const ldpc_code& code, channel& c) {
                return belief_propagation(code, 20).decodes(c.llr.data(), c.bits.data());
            });
        ldpc_decoder decoder;
        const count ours =
            run(p, p.es_n0_db + p.behind_db, errors, [&](const ldpc_code& code, channel& c) {
                std::vector<int8_t> llr(code.n());
                std::vector<uint8_t> bits(code.k());
                for (int i = 0; i < code.n(); i++)
                    llr[i] = static_cast<int8_t>(
                        std::lrint(std::clamp(ldpc_decoder::scale * c.llr[i], -127.0f, 127.0f)));
                const auto right = [&] {
                    return std::equal(bits.begin(), bits.end(), c.bits.begin());
                };
                constexpr int most = ldpc_decoder::iterations;
                return decoder.decode(code, llr.data(), 0, most, right, bits.data()).accepted;
            });
        const double chance = 2 * std::sqrt(1.0 / reference.errors + 1.0 / ours.errors);
        const bool worse = std::log(ours.rate() / reference.rate()) > chance;
        std::printf("base graph %d, rate %.3f: reference %.2e (%d of %d) at %.2f dB, decoder %.2e "
                    "(%d of %d) %.2f dB above%s\n",
                    p.base_graph,
                    p.code_rate,
                    reference.rate(),
                    reference.errors,
                    reference.blocks,
                    p.es_n0_db,
                    ours.rate(),
                    ours.errors,
                    ours.blocks,
                    p.behind_db,
                    worse ? ": worse" : "");
        std::fflush(stdout);
        good &= !worse;
    }
    return !good;
}
