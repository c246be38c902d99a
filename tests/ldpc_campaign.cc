/* SPDX-License-Identifier: GPL-3.0-or-later */

// How far the decoder is behind 20 iterations of belief propagation (cpp/belief_propagation.h,
// which fails where Sionna's does), at the Es/N0 where that leaves about one block in a hundred
// wrong. QPSK through white noise.
//
//     build/tests/ldpc_campaign ERRORS [POINT]
//
// runs all points, or one, until each has so many block errors (200: half an hour), and finds the
// Es/N0 at which the decoder fails as often, between two that are 0.05 dB apart. Without ERRORS,
// the decoder alone is run where it may fail no more often than the reference did in a whole run.
// Either fails where the decoder is worse beyond chance.

#include "cpp/belief_propagation.h"
#include "ldpc_decoder.h"

#include <algorithm>
#include <climits>
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
    double code_rate, es_n0_db, most_db_behind;
    count reference; // of a whole run, 200 errors
};

constexpr int lifting_size = 384;
const point points[]{
    { 1, 1 / 3.0, -1.17, 0.15, { 200, 27428 } }, { 1, 1 / 2.0, 1.195, 0.15, { 200, 22176 } },
    { 1, 2 / 3.0, 3.25, 0.10, { 200, 20593 } },  { 1, 0.9, 6.56, 0.10, { 200, 18521 } },
    { 2, 1 / 5.0, -3.66, 0.25, { 200, 14326 } }, { 2, 1 / 3.0, -0.99, 0.15, { 200, 21232 } },
    { 2, 1 / 2.0, 1.35, 0.15, { 200, 18975 } },  { 2, 2 / 3.0, 3.38, 0.10, { 200, 19800 } },
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

//! Until so many errors or blocks.
template <class F>
count run(const point& p, double es_n0_db, int errors, int most_blocks, F decodes)
{
    const ldpc_code code(p.base_graph, lifting_size);
    channel c(code, p.code_rate, es_n0_db);
    count result;
    for (; result.errors < errors && result.blocks < most_blocks; result.blocks++) {
        c.send();
        result.errors += !decodes(code, c);
    }
    return result;
}

count run_reference(const point& p, int errors)
{
    return run(p, p.es_n0_db, errors, INT_MAX, [](const ldpc_code& code, channel& c) {
        return belief_propagation(code, 20).decodes(c.llr.data(), c.bits.data());
    });
}

count run_decoder(const point& p, double db_more, int errors, int most_blocks = INT_MAX)
{
    ldpc_decoder decoder;
    const auto decodes = [&](const ldpc_code& code, channel& c) {
        std::vector<int8_t> llr(code.n());
        std::vector<uint8_t> bits(code.k());
        for (int i = 0; i < code.n(); i++)
            llr[i] = static_cast<int8_t>(
                std::lrint(std::clamp(ldpc_decoder::scale * c.llr[i], -127.0f, 127.0f)));
        const auto right = [&] { return std::equal(bits.begin(), bits.end(), c.bits.begin()); };
        constexpr int most = ldpc_decoder::iterations;
        return decoder.decode(code, llr.data(), 0, most, right, bits.data()).accepted;
    };
    return run(p, p.es_n0_db + db_more, errors, most_blocks, decodes);
}

//! Two standard deviations of the logarithm of the ratio of two rates.
double chance(const count& a, const count& b)
{
    return 2 * std::sqrt(1.0 / a.errors + 1.0 / b.errors);
}

void print(const point& p, const char* who, const count& c, double es_n0_db)
{
    std::printf("base graph %d, rate %.3f: %s %.2e (%d of %d) at %.3f dB\n",
                p.base_graph,
                p.code_rate,
                who,
                c.rate(),
                c.errors,
                c.blocks,
                es_n0_db);
    std::fflush(stdout);
}

//! Runs the decoder where it is worse than the reference and where it is not. \return whether it is
//! behind by no more than it may be, as far as chance allows
bool measure(const point& p, int errors)
{
    constexpr double step = 0.05;
    const count reference = run_reference(p, errors);
    print(p, "reference", reference, p.es_n0_db);
    double db_more = 0;
    const auto next = [&] {
        const count c = run_decoder(p, db_more, errors);
        print(p, "decoder", c, p.es_n0_db + db_more);
        return c;
    };
    count worse, c = next();
    if (c.rate() <= reference.rate()) {
        std::printf("not behind\n");
        return true;
    }
    do {
        worse = c;
        db_more += step;
        c = next();
    } while (c.rate() > reference.rate());
    const double slope = std::log(worse.rate() / c.rate()) / step;
    const double behind = db_more - std::log(reference.rate() / c.rate()) / slope;
    const double interval = chance(reference, c) / slope;
    std::printf("behind %.3f dB [%.3f, %.3f], at most %.2f\n",
                behind,
                behind - interval,
                behind + interval,
                p.most_db_behind);
    std::fflush(stdout);
    return behind - interval <= p.most_db_behind;
}

//! \return the same, from few blocks
bool check(const point& p)
{
    constexpr int errors = 30;
    const int blocks = errors / p.reference.rate();
    const count c = run_decoder(p, p.most_db_behind, errors, blocks);
    print(p, "decoder", c, p.es_n0_db + p.most_db_behind);
    return c.errors < errors || std::log(c.rate() / p.reference.rate()) <= chance(c, p.reference);
}

} // namespace

int main(int argc, char** argv)
{
    const int errors = argc > 1 ? std::atoi(argv[1]) : 0;
    const int only = argc > 2 ? std::atoi(argv[2]) : 0;
    if ((argc > 1 && errors < 1) || only < 0 || only > n_points) {
        std::fprintf(
            stderr, "usage: ldpc_campaign [ERRORS [POINT]], of points 1 to %d\n", n_points);
        return 2;
    }
    bool good = true;
    for (int i = 0; i < n_points; i++) {
        if (only && only != i + 1)
            continue;
        const bool right = errors ? measure(points[i], errors) : check(points[i]);
        if (!right)
            std::printf("worse than the reference beyond chance\n");
        good &= right;
    }
    return !good;
}
