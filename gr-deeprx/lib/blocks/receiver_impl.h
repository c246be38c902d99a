/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "batch_sizes.h"
#include "engine.h"
#include "model_swap.h"
#include "parameters.h"
#include "slot_finder.h"
#include "slot_geometry.h"

#include <gnuradio/deeprx/receiver.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace gr::deeprx {

class receiver_impl : public receiver
{
public:
    receiver_impl(const std::string& model,
                  const engine_parameters& parameters,
                  double max_latency_ms,
                  const std::string& len_tag_key,
                  int llr_sign);

    void set_model(const std::string& model, int64_t at_slot) override;
    uint64_t slots() const override { return d_slots; }
    uint64_t dropped() const override { return d_dropped; }
    std::string error() const override;

    bool start() override;
    bool stop() override;
    void forecast(int noutput_items, gr_vector_int& ninput_items_required) override;
    int general_work(int noutput_items,
                     gr_vector_int& ninput_items,
                     gr_vector_const_void_star& input_items,
                     gr_vector_void_star& output_items) override;

private:
    //! A slot of the input buffers, on its way.
    struct slot_in_work {
        uint64_t index = 0;
        int offset = 0; // items behind the read pointer
        std::vector<tag_t> tags;
        bool received = false;
    };

    //! Slots that the engine receives together.
    struct batch_in_work {
        std::vector<slot_in_work> slots; // [max_batch], kept for its memory
        int n = 0;                       // slots in it
        int size = 0;                    // of the engine's batch, a position in d_batch_sizes
        uint64_t end = 0;                // first item behind it
        int queued = 0;                  // slots that waited behind it
        bool alone = false;              // nothing was under way before it
        uint64_t engine_cpu_ns = 0;      // if somebody listens to the statistics
        std::chrono::steady_clock::time_point start;
    };

    loaded_model load(const std::string& path) const;
    void say_once(const model_info& info, const std::string& engine) const;
    void warm_up(loaded_model& model, bool bound) const;
    pmt::pmt_t about(const loaded_model& model) const;
    void handle_model(const pmt::pmt_t& message);
    void handle_loaded(const pmt::pmt_t& message);
    void publish_error(const std::string& why);
    void fail(const std::string& why);

    bool next_slot(slot_in_work& slot, int& offset, int available);
    std::optional<uint64_t> read_tags(std::vector<tag_t>& tags, int offset);
    bool gather(const slot_in_work& slot, int place, const gr_vector_const_void_star& in) const;
    bool submit(int available, int space, const gr_vector_const_void_star& in);
    int collect(uint64_t cpu_start, float* out);
    void forward_tags(slot_in_work& slot, uint64_t out_offset);
    void publish_stats(const batch_in_work& batch, uint64_t wall_ns, uint64_t cpu_start);
    void drop(uint64_t slot_index, const std::string& reason);
    void drop(const batch_in_work& batch, const std::string& reason);

    const slot_geometry d_slot;
    const engine_parameters d_parameters;
    const double d_max_latency;
    const pmt::pmt_t d_len_tag_key;
    const float d_llr_sign;
    const pmt::pmt_t d_n_bits;
    pmt::pmt_t d_name;    // of this block, as the source of tags
    bool d_bound = false; // to the cores of its affinity
    bool d_started = false;
    bool d_watched = false; // somebody listens to the statistics
    const thread_claim d_threads;
    const batch_sizes d_batch_sizes;

    slot_finder d_finder;
    std::vector<slot_finder::length_tag> d_length_tags; // these two are kept for their memory
    std::vector<tag_t> d_port_tags;

    // Batches are consumed when their LLRs are out: at the end of the stream, those under way are
    // still waiting input, and the scheduler calls again.
    std::vector<batch_in_work> d_batches; // [the engine's depth], those under way first, in order
    int d_under_way = 0;                  // batches
    int d_offset = 0;                     // items that are under way or dropped, and not consumed
    std::chrono::steady_clock::time_point d_collected{}; // when the last batch was

    mutable std::mutex d_error_mutex;
    std::string d_error; // that ended it

    std::atomic<uint64_t> d_slots{ 0 };
    std::atomic<uint64_t> d_dropped{ 0 };
    std::chrono::steady_clock::time_point d_last_warning{};
    uint64_t d_unlogged = 0; // drops since then

    model_swap d_model; // last: its thread stops before what it uses goes away
    pmt::pmt_t d_about; // d_model: the part of stats that is the same for every slot
};

} // namespace gr::deeprx
