/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "receiver_impl.h"
#include "pmt_values.h"
#include "printable.h"
#include "samples.h"
#include "tags.h"
#include "trusted.h"

#include <gnuradio/io_signature.h>
#include <gnuradio/thread/thread.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace gr::deeprx {

namespace {

constexpr int n_symbols = slot_geometry::n_symbols;

const pmt::pmt_t stats_port = pmt::mp("stats");
const pmt::pmt_t estimates_port = pmt::mp("estimates");
const pmt::pmt_t model_port = pmt::mp("model");

std::atomic<void (*)()> failure_watch{ nullptr };

} // namespace

void receiver::watch_failures(void (*failed)()) { failure_watch = failed; }

receiver::sptr receiver::make(const std::string& model,
                              const slot_config& slot,
                              int n_rx,
                              const std::string& device,
                              int threads,
                              int max_batch,
                              double max_latency_ms,
                              const std::string& len_tag_key,
                              int llr_sign,
                              const std::string& engine,
                              const std::vector<std::string>& trust,
                              const std::optional<int>& sealed,
                              const std::optional<jail_limits>& jail)
{
    const engine_parameters parameters{
        slot_geometry(slot), n_rx,   device,           threads,
        max_batch,           engine, hashes_of(trust), jail.value_or(usual_jail_limits())
    };
    check_range(parameters);
    expect(max_latency_ms >= 0.0,
           "max_latency_ms must be 0 (no bound) or more",
           std::to_string(max_latency_ms));
    expect(llr_sign == 1 || llr_sign == -1, "llr_sign must be 1 or -1", std::to_string(llr_sign));
    expect(!len_tag_key.empty(), "len_tag_key must name a tag", "an empty string");
    return gnuradio::make_block_sptr<receiver_impl>(model,
                                                    sealed ? std::optional<model_bytes>(*sealed)
                                                           : std::nullopt,
                                                    parameters,
                                                    max_latency_ms,
                                                    len_tag_key,
                                                    llr_sign);
}

receiver_impl::receiver_impl(const std::string& model,
                             const std::optional<model_bytes>& bytes,
                             const engine_parameters& parameters,
                             double max_latency_ms,
                             const std::string& len_tag_key,
                             int llr_sign)
    : gr::block("deeprx_receiver",
                gr::io_signature::make(parameters.n_rx,
                                       parameters.n_rx,
                                       sizeof(gr_complex) * parameters.slot.fft_size()),
                gr::io_signature::make(
                    parameters.slot.n_layers(), parameters.slot.n_layers(), sizeof(float))),
      d_slot(parameters.slot), d_n_rx(parameters.n_rx), d_threads(parameters.threads),
      d_max_latency(max_latency_ms > 0.0 ? max_latency_ms * 1e-3 : HUGE_VAL),
      d_llr_sign(static_cast<float>(llr_sign)), d_most_bits(d_slot.n_data_re() * llr_bits(d_slot)),
      d_claim(parameters.threads), d_loader(parameters, d_logger), d_tags(pmt::intern(len_tag_key)),
      d_answered(pmt::cons(pmt::PMT_NIL, pmt::PMT_NIL)),
      d_model(d_loader.load_first(model, bytes), [this] { _post(model_port, d_answered); }),
      d_messages(messages(*d_model)), d_estimates(d_slot, d_n_rx),
      d_batches(d_model->engine->depth(), parameters.max_batch) // every model's, on one device
{
    set_tag_propagation_policy(TPP_DONT);
    set_output_multiple(d_most_bits);
    // Room for what is under way, and for as much on its way to and from other blocks.
    const int most = d_model->engine->depth() * parameters.max_batch; // slots
    if (most > 1)
        set_min_output_buffer(2 * most * d_most_bits);
    // Nothing here runs at this rate: the scheduler sizes the input buffers by it, to hold twice
    // output_multiple / relative_rate slots.
    set_relative_rate(d_most_bits, uint64_t(most) * n_symbols);

    message_port_register_out(stats_port);
    message_port_register_out(estimates_port);
    message_port_register_in(model_port);
    set_msg_handler(model_port, [this](const pmt::pmt_t& message) { handle_model(message); });
}

receiver_impl::~receiver_impl() { d_loader.cancel(); }

receiver_messages receiver_impl::messages(const loaded_model& model) const
{
    return { model.engine->info(), model.engine->description(), d_slot.n_prb(), d_n_rx };
}

bool receiver_impl::start()
{
    // Here, because this is the work thread: LibTorch's thread pool and caches belong to it. The
    // scheduler binds it to its cores only after this: too late for the pool, which inherits them.
    d_bound = !processor_affinity().empty();
    d_name = alias_pmt();
    if (d_bound)
        gr::thread::thread_bind_to_processor(processor_affinity());
    set_inference_threads(d_threads);
    this_thread_leaves() = [] { return boost::this_thread::interruption_requested(); };
    d_started = false;
    try {
        if (!d_model.lost())
            d_loader.warm_up(*d_model, d_bound);
        d_started = true;
    } catch (const jail_lost& e) {
        lose_model(e);
        d_started = true;
    } catch (const std::exception& e) { // from here it would end the thread, and nothing else
        fail(d_model->engine->info().name + ": " + e.what());
    }
    return block::start();
}

bool receiver_impl::stop()
{
    // What is under way was not consumed, and no later start finds it.
    if (!d_batches.empty())
        d_finder.expect(d_batches.oldest().slots[0].index);
    for (; !d_batches.empty(); d_batches.release()) {
        try {
            d_model->engine->collect();
        } catch (const std::exception&) {
        }
    }
    d_batches.clear();
    return block::stop();
}

void receiver_impl::set_model(const std::string& model, int64_t at_slot)
{
    const uint64_t first = at_slot < 0 ? 0 : static_cast<uint64_t>(at_slot);
    _post(model_port, to_message({ model, first }));
}

void receiver_impl::handle_model(const pmt::pmt_t& message)
try {
    if (pmt::eq(message, d_answered)) {
        publish_answers();
        return;
    }
    const auto request = to_model_request(message);
    if (!request) {
        const std::string line =
            "a message to the port model must be the path of a model file (symbol), or a "
            "dictionary with path and at_slot (uint64), got " +
            in_words(message);
        publish_error(receiver_messages::model_error(line), line);
        return;
    }
    d_model.load(
        request->path,
        [loader = d_loader, path = request->path, bound = d_bound] {
            return loader.load(path, bound);
        },
        request->at_slot);
} catch (const std::exception& e) { // from here it would end the thread, and nothing else
    d_started = false;
    fail(e.what());
}

void receiver_impl::publish_answers()
{
    using event = model_swap::event;
    for (const auto& [what, model, line, path] : d_model.take_answers()) {
        const auto answer = [&path = path](const pmt::pmt_t& message) {
            return receiver_messages::answer(message, path);
        };
        if (what == event::loaded)
            message_port_pub(stats_port, answer(messages(*model).model_loaded()));
        else if (what == event::failed)
            publish_error(answer(receiver_messages::model_error(line)), line);
        else if (what == event::replaced)
            publish_error(answer(receiver_messages::model_replaced(line)), line);
        else
            publish_loss(line);
    }
}

void receiver_impl::publish_loss(const std::string& line)
{
    d_logger->error("{:s}", printable(line)); // as rare as loads are, and no other line hides it
    message_port_pub(stats_port, receiver_messages::model_lost(line));
}

void receiver_impl::publish_error(const pmt::pmt_t& message, const std::string& line)
{
    if (const uint64_t n = d_error_lines.count())
        d_logger->error("{:s} ({:d} since the last line)", printable(line), n);
    message_port_pub(stats_port, message);
}

void receiver_impl::publish_estimate_error(const std::string& why, uint64_t slot_index)
{
    publish_error(receiver_messages::slot(receiver_messages::estimate_error(why), slot_index),
                  "slot " + std::to_string(slot_index) + ": " + why);
}

void receiver_impl::forecast(int, gr_vector_int& ninput_items_required)
{
    std::fill(ninput_items_required.begin(), ninput_items_required.end(), n_symbols);
}

int receiver_impl::general_work(int noutput_items,
                                gr_vector_int& ninput_items,
                                gr_vector_const_void_star& input_items,
                                gr_vector_void_star& output_items)
try {
    if (!d_started)
        return WORK_DONE;
    if (d_model.answered()) // and the port's queue may have lost the message that says so
        publish_answers();
    d_watched = !pmt::is_null(message_subscribers(stats_port));
    d_work_start = d_watched ? cpu_ns() : 0; // the kernel's clock takes time
    const int available = *std::min_element(ninput_items.begin(), ninput_items.end());
    while (submit(available, noutput_items / d_most_bits, input_items)) {
    }
    if (!d_batches.empty()) {
        collect(input_items, output_items);
        return WORK_CALLED_PRODUCE;
    }
    consume_each(d_batches.clear());
    return 0;
} catch (const std::exception& e) { // from here it would end the thread, and nothing else
    fail(e.what());
    return WORK_DONE;
}

void receiver_impl::fail(const std::string& why)
{
    {
        std::lock_guard<std::mutex> lock(d_error_mutex);
        d_error = printable(why);
        d_logger->error("{:s}; the receiver ends here", d_error);
    }
    if (const auto failed = failure_watch.load())
        failed();
}

std::string receiver_impl::error() const
{
    std::lock_guard<std::mutex> lock(d_error_mutex);
    return d_error;
}

/*
 * Starts a batch of what waits, if the engine takes one more. space: slots of output, from those
 * under way on, whose LLRs need theirs first.
 */
bool receiver_impl::submit(int available, int space, const gr_vector_const_void_star& in)
{
    space -= d_batches.slots();
    if (d_batches.full() || space < 1)
        return false;

    batch_in_work& batch = d_batches.next();
    const auto& sizes = d_loader.sizes();
    int& offset = d_batches.offset;
    const int waiting = std::min((available - offset) / n_symbols, space);
    const int limit = sizes.most(waiting, d_model->batch_seconds, d_max_latency);
    batch.n = 0;
    while (batch.n < limit) {
        slot_in_work& slot = batch.slots[batch.n];
        if (!next_slot(slot, available))
            break;
        if (d_model.due(slot.index)) {
            if (batch.n > 0 || !d_batches.empty()) { // the old model receives these first
                offset = slot.offset;
                d_finder.expect(slot.index);
                break;
            }
            change_model(slot.index);
        }
        if (d_model.lost()) {
            drop(slot.index, "the model has lost its jail");
            renew_model();
            continue;
        }
        slot.factor = copy_grid(d_slot, in, slot.offset, d_model->engine->grid(batch.n));
        if (slot.factor == 0.0f) {
            drop(slot.index, "NaN or infinite samples");
            continue;
        }
        copy_pilots(d_slot, slot.index, d_model->engine->pilots(batch.n));
        batch.n++;
    }
    if (batch.n == 0)
        return false;

    // Dropped slots may have left a batch of a size that was not warmed up: receive the next larger
    // one, with old slots behind the new.
    batch.size = sizes.position(batch.n);
    batch.queued = (available - offset) / n_symbols;
    const auto start = std::chrono::steady_clock::now();
    try {
        const uint64_t before = d_watched ? cpu_ns() : 0;
        d_model->engine->submit(sizes.all()[batch.size]);
        batch.engine_cpu_ns = d_watched ? cpu_ns() - before : 0;
        d_batches.submitted(start);
    } catch (const device_lost&) {
        throw;
    } catch (const std::exception& e) {
        inference_failed(batch, e);
    }
    return true;
}

void receiver_impl::change_model(uint64_t slot_index)
{
    d_work_start -= d_model->engine->cpu_ns(); // the next one counts from elsewhere
    d_model.change(slot_index);
    d_work_start += d_model->engine->cpu_ns();
    d_messages = messages(*d_model);
}

void receiver_impl::renew_model()
{
    d_model.renew(std::chrono::steady_clock::now(),
                  [loader = d_loader, bound = d_bound](loaded_model& model) {
                      loader.warm_up(model, bound);
                  });
}

void receiver_impl::lose_model(const jail_lost& e)
{
    if (!d_model.lose())
        return;
    const std::string line = d_model->engine->info().name + ": " + e.what() +
                             "; slots are dropped until it has a fresh jail";
    publish_loss(line);
}

uint64_t receiver_impl::cpu_ns() const { return inference_cpu_ns() + d_model->engine->cpu_ns(); }

//! The next slot of the input; what lies before it is dropped.
bool receiver_impl::next_slot(slot_in_work& slot, int available)
{
    int& offset = d_batches.offset;
    while (available - offset >= n_symbols) {
        read_tags(slot.tags, offset);
        const auto place = d_finder.look(d_tags.lengths(), d_tags.slot_index());
        slot.index = place.slot_index;
        slot.offset = offset;
        offset += place.symbols;
        if (place.is_slot)
            return true;
        if (!place.dropped.empty())
            drop(place.slot_index, place.dropped);
    }
    return false;
}

//! Those of the 14 symbols at offset. \param others gets what travels with a slot there
void receiver_impl::read_tags(std::vector<tag_t>& others, int offset)
{
    others.clear();
    d_tags.clear();
    for (int stream = 0; stream < d_n_rx; stream++) {
        const uint64_t first = nitems_read(stream) + offset;
        get_tags_in_range(d_stream_tags, stream, first, first + n_symbols);
        d_tags.add(stream, first, d_stream_tags, others);
    }
}

//! LLRs and estimates of the oldest batch that is under way.
void receiver_impl::collect(const gr_vector_const_void_star& in, const gr_vector_void_star& out)
{
    auto& engine = *d_model->engine;
    batch_in_work& batch = d_batches.oldest();
    const float* llr = nullptr;
    try {
        llr = engine.collect();
    } catch (const device_lost&) {
        d_batches.release(); // stop() must not collect it again
        throw;
    } catch (const std::exception& e) {
        inference_failed(batch, e);
    }
    const auto took = d_batches.collected(std::chrono::steady_clock::now());

    if (llr) {
        if (batch.alone)
            d_model->took(batch.size, std::chrono::duration<double>(took).count());
        const int stride = engine.llr_stride();
        int received = 0;
        for (int i = 0; i < batch.n; i++) {
            slot_in_work& slot = batch.slots[i];
            slot.received = true;
            for (int layer = 0; layer < d_slot.n_layers(); layer++) {
                float* to = static_cast<float*>(out[layer]) + received * d_slot.n_bits(layer);
                slot.received &= copy_llrs(d_slot, layer, llr, stride, d_llr_sign, to);
                llr += size_t(d_slot.n_re()) * stride;
            }
            if (slot.received) {
                forward_tags(slot, received++);
                d_slots++;
            } else {
                drop(slot.index, not_finite);
            }
        }
        for (int layer = 0; layer < d_slot.n_layers(); layer++)
            produce(layer, received * d_slot.n_bits(layer));
        const auto estimator = publish_estimates(batch, in);
        const auto wall_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
        if (d_watched)
            publish_stats(batch, wall_ns, estimator);
    }
    consume_each(d_batches.release());
}

/*!
 * Once the LLRs are out, as the engine may compute anew.
 * \return the estimator; nil: nobody listens, or it failed
 */
pmt::pmt_t receiver_impl::publish_estimates(const batch_in_work& batch,
                                            const gr_vector_const_void_star& in)
try {
    if (pmt::is_null(message_subscribers(estimates_port)))
        return pmt::PMT_NIL;
    const auto of_model = d_model->engine->estimate(d_loader.sizes().all()[batch.size]);
    const auto by = estimator(of_model.has_value());
    for (int i = 0; i < batch.n; i++) {
        const slot_in_work& slot = batch.slots[i];
        if (!slot.received)
            continue;
        if (!d_estimates.has_room()) {
            publish_estimate_error(
                "its estimates are dropped, as 64 MiB of earlier ones were not read", slot.index);
            continue;
        }
        const auto message = d_estimates.message(slot,
                                                 of_model ? d_estimates.of_slot(*of_model, i)
                                                          : d_estimates.classical(in, slot),
                                                 by);
        if (pmt::is_null(message))
            publish_estimate_error(pmt::symbol_to_string(by) + " gave NaN or infinite estimates",
                                   slot.index);
        else
            message_port_pub(estimates_port, message);
    }
    return by;
} catch (const device_lost&) {
    d_batches.release(); // stop() must not collect it again
    throw;
} catch (const jail_lost& e) {
    lose_model(e);
    return pmt::PMT_NIL;
} catch (const std::exception& e) {
    const std::string line = d_model->engine->info().name + ": estimate failed: " + e.what();
    publish_error(receiver_messages::estimate_error(line), line);
    return pmt::PMT_NIL;
}

//! Who it is. Another one than before is logged, if it is not the model itself.
pmt::pmt_t receiver_impl::estimator(bool is_model)
{
    const auto& info = d_model->engine->info();
    const auto now = pmt::intern(is_model ? info.name : slot_estimates::classical_name);
    if (!is_model && !pmt::eq(now, d_estimator))
        d_logger->info(
            "estimates of channel and noise are {:s}'s: {:s} has none of its own as {:s}",
            slot_estimates::classical_name,
            printable(info.name, 100),
            printable(d_model->engine->description()));
    return d_estimator = now;
}

void receiver_impl::publish_stats(const batch_in_work& batch,
                                  uint64_t wall_ns,
                                  const pmt::pmt_t& estimator)
{
    const auto about = d_messages.about({ batch.n,
                                          wall_ns,
                                          cpu_ns() - d_work_start,
                                          batch.engine_cpu_ns,
                                          batch.queued,
                                          estimator });
    for (int i = 0; i < batch.n; i++)
        if (batch.slots[i].received)
            message_port_pub(stats_port, receiver_messages::slot(about, batch.slots[i].index));
}

//! received: slots that this call has put out before it
void receiver_impl::forward_tags(const slot_in_work& slot, int received)
{
    for (int layer = 0; layer < d_slot.n_layers(); layer++) {
        const int n_bits = d_slot.n_bits(layer);
        d_llr_tags = slot.tags;
        d_tags.to_llrs(d_llr_tags,
                       nitems_written(layer) + uint64_t(received) * n_bits,
                       slot.index,
                       pmt::from_long(n_bits),
                       d_name);
        for (const tag_t& tag : d_llr_tags)
            add_item_tag(layer, tag);
    }
}

void receiver_impl::drop(uint64_t slot_index, const std::string& why)
{
    d_dropped++;
    if (const uint64_t n = d_drop_lines.count())
        d_logger->warn(
            "slot {:d} dropped: {:s} ({:d} since the last warning)", slot_index, printable(why), n);
    if (d_watched)
        message_port_pub(stats_port, receiver_messages::dropped(slot_index, why));
}

void receiver_impl::inference_failed(const batch_in_work& batch, const std::exception& e)
{
    for (int i = 0; i < batch.n; i++)
        drop(batch.slots[i].index, std::string("inference failed: ") + e.what());
    if (const auto* lost = dynamic_cast<const jail_lost*>(&e))
        lose_model(*lost);
}

} // namespace gr::deeprx
