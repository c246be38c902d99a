/* SPDX-License-Identifier: GPL-3.0-or-later */

/*
 * A receiver that is asked for another model every 12 ms, while its flowgraph starts and stops: for
 * ThreadSanitizer, see ./dev fuzz.
 *
 *   swap_storm SECONDS MODEL...
 */

#include <gnuradio/deeprx/receiver.h>

#include <gnuradio/io_signature.h>
#include <gnuradio/sync_block.h>
#include <gnuradio/top_block.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr int fft_size = 128; // of 6 PRB
using clock_type = std::chrono::steady_clock;

//! Symbols of one value, in slots.
class source : public gr::sync_block
{
public:
    source()
        : gr::sync_block("source",
                         gr::io_signature::make(0, 0, 0),
                         gr::io_signature::make(1, 1, sizeof(gr_complex) * fft_size))
    {
        set_output_multiple(14);
    }

    int work(int n, gr_vector_const_void_star&, gr_vector_void_star& out) override
    {
        std::fill_n(static_cast<gr_complex*>(out[0]), n * fft_size, gr_complex(1.0f, -1.0f));
        for (int i = 0; i < n; i += 14)
            add_item_tag(0, nitems_written(0) + i, pmt::mp("packet_len"), pmt::from_long(14));
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return n;
    }
};

//! Takes LLRs and messages.
class sink : public gr::sync_block
{
public:
    sink()
        : gr::sync_block(
              "sink", gr::io_signature::make(1, 1, sizeof(float)), gr::io_signature::make(0, 0, 0))
    {
        message_port_register_in(pmt::mp("in"));
        set_msg_handler(pmt::mp("in"), [this](const pmt::pmt_t& message) {
            loaded += pmt::dict_has_key(message, pmt::mp("model_loaded"));
        });
    }

    int work(int n, gr_vector_const_void_star&, gr_vector_void_star&) override { return n; }

    std::atomic<int> loaded{ 0 };
};

} // namespace

int main(int argc, char** argv)
{
    if (argc < 4) {
        std::fprintf(stderr, "usage: swap_storm SECONDS MODEL MODEL...\n");
        return 2;
    }
    const std::vector<std::string> models(argv + 2, argv + argc);
    const auto seconds = std::chrono::seconds(std::atoi(argv[1]));
    const auto begin = clock_type::now();
    const auto over = [&](int loaded) { // a busy machine has a minute more for its first model
        return clock_type::now() - begin > seconds + std::chrono::minutes(loaded == 0);
    };
    gr::deeprx::slot_config slot;
    slot.n_prb = 6;
    size_t swaps = 0, starts = 0;
    uint64_t slots = 0;
    int loaded = 0;
    while (!over(loaded)) { // a receiver is made and destroyed, too, while it loads
        auto top = gr::make_top_block("storm");
        auto receiver = gr::deeprx::receiver::make(models[0], slot);
        auto first = gnuradio::make_block_sptr<source>();
        auto second = gnuradio::make_block_sptr<source>();
        auto last = gnuradio::make_block_sptr<sink>();
        top->connect(first, 0, receiver, 0);
        top->connect(second, 0, receiver, 1);
        top->connect(receiver, 0, last, 0);
        top->msg_connect(receiver, "stats", last, "in");
        for (int run = 1; run <= 3 && !over(loaded + last->loaded); run++, starts++) {
            top->start();
            const auto stop = clock_type::now() + std::chrono::seconds(3 * run);
            while (clock_type::now() < stop && !over(loaded + last->loaded)) {
                receiver->set_model(models[swaps++ % models.size()], -1);
                std::this_thread::sleep_for(std::chrono::milliseconds(12));
            }
            top->stop();
            top->wait();
        }
        slots += receiver->slots();
        loaded += last->loaded;
    }
    std::printf("%zu swaps asked for, %d done, %zu starts, %llu slots\n",
                swaps,
                loaded,
                starts,
                static_cast<unsigned long long>(slots));
    return loaded > 0 && slots > 0 ? 0 : 1;
}
