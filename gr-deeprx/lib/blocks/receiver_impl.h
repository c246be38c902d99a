/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "guarded.h"
#include "line_pace.h"
#include "model_loader.h"
#include "model_swap.h"
#include "parameters.h"
#include "receiver_messages.h"
#include "slot_batches.h"
#include "slot_estimates.h"
#include "slot_finder.h"
#include "slot_geometry.h"
#include "slot_tags.h"

#include <gnuradio/deeprx/receiver.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace gr::deeprx {

class receiver_impl : public guarded<receiver>
{
public:
    receiver_impl(const std::string& model,
                  const std::optional<model_bytes>& bytes,
                  const engine_parameters& parameters,
                  double max_latency_ms,
                  const std::string& len_tag_key,
                  int llr_sign);
    ~receiver_impl() override;

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
    void handle_model(const pmt::pmt_t& message);
    void publish_answers();
    receiver_messages messages(const loaded_model& model) const;
    void publish_loss(const std::string& line);
    void publish_error(const pmt::pmt_t& message, const std::string& line);
    void publish_estimate_error(const std::string& why, uint64_t slot_index);
    void fail(const std::string& why);

    bool next_slot(slot_in_work& slot, int available);
    void read_tags(std::vector<tag_t>& others, int offset);
    bool submit(int available, int space, const gr_vector_const_void_star& in);
    void collect(const gr_vector_const_void_star& in, const gr_vector_void_star& out);
    void forward_tags(const slot_in_work& slot, int received);
    pmt::pmt_t publish_estimates(const batch_in_work& batch, const gr_vector_const_void_star& in);
    pmt::pmt_t estimator(bool is_model);
    void publish_stats(const batch_in_work& batch, uint64_t wall_ns, const pmt::pmt_t& estimator);
    void change_model(uint64_t slot_index);
    void renew_model();
    void lose_model(const jail_lost& e);
    uint64_t cpu_ns() const;
    void drop(uint64_t slot_index, const std::string& why);
    void inference_failed(const batch_in_work& batch, const std::exception& e);

    const slot_geometry d_slot;
    const int d_n_rx;
    const int d_threads;
    const double d_max_latency;
    const float d_llr_sign;
    const int d_most_bits; // of a layer
    pmt::pmt_t d_name;     // of this block, as the source of tags
    bool d_bound = false;  // to the cores of its affinity
    bool d_started = false;
    bool d_watched = false;    // somebody listens to the statistics
    uint64_t d_work_start = 0; // of this call of work(), as cpu_ns(), if so
    const thread_claim d_claim;
    const model_loader d_loader;

    slot_finder d_finder;
    slot_tags d_tags;
    std::vector<tag_t> d_stream_tags; // these two kept for their memory
    std::vector<tag_t> d_llr_tags;

    mutable std::mutex d_error_mutex;
    std::string d_error; // that ended it

    std::atomic<uint64_t> d_slots{ 0 };
    std::atomic<uint64_t> d_dropped{ 0 };
    line_pace d_drop_lines;
    line_pace d_error_lines;

    // Posted to the port model when there are answers: nobody else has this object, so that no
    // port is needed for it, to which anybody could post.
    const pmt::pmt_t d_answered;
    model_swap d_model;
    receiver_messages d_messages;
    slot_estimates d_estimates;
    pmt::pmt_t d_estimator; // of the last slot
    slot_batches d_batches;
};

} // namespace gr::deeprx
