/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "receiver_impl.h"
#include "cpu_instructions.h"
#include "samples.h"
#include "tags.h"

#include <gnuradio/io_signature.h>
#include <gnuradio/thread/thread.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>
#include <stdexcept>

namespace gr::deeprx {

namespace {

constexpr int n_symbols = slot_geometry::n_symbols;

const pmt::pmt_t stats_port = pmt::mp("stats");
const pmt::pmt_t model_port = pmt::mp("model");
// Not for users: the background thread says here that it has loaded a model, so that only the work
// thread touches the block's state.
const pmt::pmt_t loaded_port = pmt::mp("loaded");

const pmt::pmt_t inference_ns_key = pmt::mp("inference_ns");
const pmt::pmt_t cpu_ns_key = pmt::mp("cpu_ns");
const pmt::pmt_t engine_cpu_ns_key = pmt::mp("engine_cpu_ns");
const pmt::pmt_t queue_depth_key = pmt::mp("queue_depth");
const pmt::pmt_t batch_key = pmt::mp("batch");
const pmt::pmt_t model_key = pmt::mp("model");
const pmt::pmt_t model_sha256_key = pmt::mp("model_sha256");
const pmt::pmt_t engine_key = pmt::mp("engine");
const pmt::pmt_t flop_per_slot_key = pmt::mp("flop_per_slot");
const pmt::pmt_t model_loaded_key = pmt::mp("model_loaded");
const pmt::pmt_t dropped_key = pmt::mp("dropped");
const pmt::pmt_t path_key = pmt::mp("path");
const pmt::pmt_t at_slot_key = pmt::mp("at_slot");

//! What a message to the port model asks for.
struct model_request {
    std::string path;
    uint64_t at_slot;
};

std::optional<model_request> to_request(const pmt::pmt_t& message)
try {
    if (pmt::is_symbol(message))
        return model_request{ pmt::symbol_to_string(message), 0 };
    const auto path = pmt::dict_ref(message, path_key, pmt::PMT_NIL);
    const auto at_slot = to_unsigned(pmt::dict_ref(message, at_slot_key, pmt::from_uint64(0)));
    if (!at_slot)
        return std::nullopt;
    return model_request{ pmt::symbol_to_string(path), *at_slot };
} catch (const std::exception&) {
    return std::nullopt;
}

} // namespace

receiver::sptr receiver::make(const std::string& model,
                              int n_prb,
                              int n_rx,
                              const std::string& modulation,
                              const std::vector<int>& dmrs,
                              int cell_id,
                              int slot_number,
                              const std::string& device,
                              int threads,
                              int max_batch,
                              double max_latency_ms,
                              const std::string& len_tag_key,
                              int llr_sign,
                              const std::string& engine)
{
    const slot_geometry slot(n_prb, modulation, dmrs, cell_id, slot_number);
    const engine_parameters parameters{ slot, n_rx, device, threads, max_batch, engine };
    check_range(parameters);
    expect(max_latency_ms >= 0.0,
           "max_latency_ms must be 0 (no bound) or more",
           std::to_string(max_latency_ms));
    expect(llr_sign == 1 || llr_sign == -1, "llr_sign must be 1 or -1", std::to_string(llr_sign));
    expect(!len_tag_key.empty(), "len_tag_key must name a tag", "an empty string");
    return gnuradio::make_block_sptr<receiver_impl>(
        model, parameters, max_latency_ms, len_tag_key, llr_sign);
}

receiver_impl::receiver_impl(const std::string& model,
                             const engine_parameters& parameters,
                             double max_latency_ms,
                             const std::string& len_tag_key,
                             int llr_sign)
    : gr::block("deeprx_receiver",
                gr::io_signature::make(parameters.n_rx,
                                       parameters.n_rx,
                                       sizeof(gr_complex) * parameters.slot.fft_size()),
                gr::io_signature::make(1, 1, sizeof(float))),
      d_slot(parameters.slot), d_parameters(parameters),
      d_max_latency(max_latency_ms > 0.0 ? max_latency_ms * 1e-3 : HUGE_VAL),
      d_len_tag_key(pmt::intern(len_tag_key)), d_llr_sign(static_cast<float>(llr_sign)),
      d_n_bits(pmt::from_long(parameters.slot.n_bits())), d_threads(parameters.threads),
      d_batch_sizes(parameters.max_batch), d_model(load(model)), d_about(about(*d_model))
{
    d_batches.resize(d_model->engine->depth()); // every model's, on one device
    for (batch_in_work& batch : d_batches)
        batch.slots.resize(parameters.max_batch);

    set_tag_propagation_policy(TPP_DONT);
    set_output_multiple(d_slot.n_bits());
    // Room for what is under way, and for as much on its way to and from other blocks.
    const int most = static_cast<int>(d_batches.size()) * parameters.max_batch; // slots
    if (most > 1)
        set_min_output_buffer(2 * most * d_slot.n_bits());
    // Nothing here runs at this rate: the scheduler sizes the input buffers by it, to hold twice
    // output_multiple / relative_rate slots.
    set_relative_rate(d_slot.n_bits(), uint64_t(most) * n_symbols);

    message_port_register_out(stats_port);
    message_port_register_in(model_port);
    set_msg_handler(model_port, [this](const pmt::pmt_t& message) { handle_model(message); });
    message_port_register_in(loaded_port);
    set_msg_handler(loaded_port, [this](const pmt::pmt_t& message) { handle_loaded(message); });
}

loaded_model receiver_impl::load(const std::string& path) const
{
    set_inference_threads(d_parameters.threads);
    auto engine = load_engine(path, d_parameters);
    say_once(engine->info(), engine->description());
    return { std::move(engine), {} };
}

pmt::pmt_t receiver_impl::about(const loaded_model& model) const
{
    const model_info& info = model.engine->info();
    auto about = pmt::dict_add(pmt::make_dict(), model_key, pmt::intern(info.name));
    about = pmt::dict_add(about, model_sha256_key, pmt::intern(info.sha256));
    about = pmt::dict_add(about, engine_key, pmt::intern(model.engine->description()));
    return pmt::dict_add(about,
                         flop_per_slot_key,
                         pmt::from_uint64(info.flop_per_slot(d_slot.n_prb(), d_parameters.n_rx)));
}

//! Once in a process: who measures many points makes as many flowgraphs.
void receiver_impl::say_once(const model_info& info, const std::string& engine) const
{
    static std::mutex mutex;
    static std::set<std::string> said;
    std::string line = info.name + ": " + engine;
    if (!info.trained.empty())
        line += "; trained for " + info.trained + ": beyond, a classical receiver can be better";
    std::lock_guard<std::mutex> lock(mutex);
    if (!said.insert(line).second)
        return;
    d_logger->info("{:s}", line);
    const auto instructions = cpu_instructions_for(info.precision);
    if (d_parameters.device == "cpu" && !instructions.native)
        d_logger->warn("{:s} is made for {:s}, and this processor has no instructions for that: "
                       "{:s} does it instead, slowly",
                       info.name,
                       info.precision,
                       instructions.name);
}

void receiver_impl::warm_up(loaded_model& model, bool bound) const
{
    if (bound)
        model.engine->stay_bound();
    model.batch_seconds = model.engine->warm_up(d_batch_sizes.all());
}

bool receiver_impl::start()
{
    // Here, because this is the work thread: LibTorch's thread pool and caches belong to it. The
    // scheduler binds it to its cores only after this: too late for the pool, which inherits them.
    d_bound = !processor_affinity().empty();
    d_name = alias_pmt();
    if (d_bound)
        gr::thread::thread_bind_to_processor(processor_affinity());
    set_inference_threads(d_parameters.threads);
    d_started = false;
    try {
        warm_up(*d_model, d_bound);
        d_started = true;
    } catch (const std::exception& e) { // from here it would end the thread, and nothing else
        fail(d_model->engine->info().name + ": " + e.what());
    }
    return block::start();
}

bool receiver_impl::stop()
{
    // What is under way was not consumed, and no later start finds it.
    if (d_under_way > 0)
        d_finder.expect(d_batches[0].slots[0].index);
    for (; d_under_way > 0; d_under_way--) {
        try {
            d_model->engine->collect();
        } catch (const std::exception&) {
        }
    }
    d_offset = 0;
    return block::stop();
}

void receiver_impl::set_model(const std::string& model, int64_t at_slot)
{
    auto message = pmt::dict_add(pmt::make_dict(), path_key, pmt::intern(model));
    if (at_slot >= 0)
        message = pmt::dict_add(message, at_slot_key, pmt::from_uint64(at_slot));
    _post(model_port, message);
}

void receiver_impl::handle_model(const pmt::pmt_t& message)
{
    const auto request = to_request(message);
    if (!request) {
        publish_error("a message to the port model must be the path of a model file (symbol), or a "
                      "dictionary with path and at_slot (uint64), got " +
                      pmt::write_string(message));
        return;
    }
    d_model.load(
        [this, path = request->path, bound = d_bound] {
            loaded_model model = load(path);
            warm_up(model, bound);
            return model;
        },
        request->at_slot,
        [this] { _post(loaded_port, pmt::PMT_NIL); });
}

void receiver_impl::handle_loaded(const pmt::pmt_t&)
{
    for (const auto& [model, error] : d_model.take_answers()) {
        if (!model) {
            publish_error(error);
            continue;
        }
        const auto all = about(*model);
        const auto of = [&all](const pmt::pmt_t& key) {
            return pmt::dict_ref(all, key, pmt::PMT_NIL);
        };
        auto answer = pmt::dict_add(pmt::make_dict(), model_loaded_key, of(model_key));
        for (const auto& key : { model_sha256_key, engine_key })
            answer = pmt::dict_add(answer, key, of(key));
        message_port_pub(stats_port, answer);
    }
}

void receiver_impl::publish_error(const std::string& why)
{
    d_logger->error("{:s}; the running model stays", why);
    message_port_pub(stats_port,
                     pmt::dict_add(pmt::make_dict(), pmt::mp("model_error"), pmt::intern(why)));
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
    d_watched = !pmt::is_null(message_subscribers(stats_port));
    const uint64_t cpu_start = d_watched ? inference_cpu_ns() : 0; // the kernel's clock takes time
    const int available = *std::min_element(ninput_items.begin(), ninput_items.end());
    while (submit(available, noutput_items / d_slot.n_bits(), input_items)) {
    }
    if (d_under_way > 0)
        return collect(cpu_start, static_cast<float*>(output_items[0]));
    consume_each(d_offset);
    d_offset = 0;
    return 0;
} catch (const std::exception& e) { // from here it would end the thread, and nothing else
    fail(e.what());
    return WORK_DONE;
}

void receiver_impl::fail(const std::string& why)
{
    d_logger->error("{:s}; the receiver ends here", why);
    std::lock_guard<std::mutex> lock(d_error_mutex);
    d_error = why;
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
    if (d_under_way == static_cast<int>(d_batches.size()))
        return false;
    for (int i = 0; i < d_under_way; i++)
        space -= d_batches[i].n;
    if (space < 1)
        return false;

    batch_in_work& batch = d_batches[d_under_way];
    const int waiting = std::min((available - d_offset) / n_symbols, space);
    const int limit = d_batch_sizes.most(waiting, d_model->batch_seconds, d_max_latency);
    batch.n = 0;
    while (batch.n < limit) {
        slot_in_work& slot = batch.slots[batch.n];
        if (!next_slot(slot, d_offset, available))
            break;
        if (d_model.due(slot.index)) {
            if (batch.n > 0 || d_under_way > 0) { // the old model receives these first
                d_offset = slot.offset;
                d_finder.expect(slot.index);
                break;
            }
            d_model.change();
            d_about = about(*d_model);
        }
        if (gather(slot, batch.n, in))
            batch.n++;
        else
            drop(slot.index, "NaN or infinite samples");
    }
    if (batch.n == 0)
        return false;

    // Dropped slots may have left a batch of a size that was not warmed up: receive the next larger
    // one, with old slots behind the new.
    batch.size = d_batch_sizes.position(batch.n);
    batch.end = nitems_read(0) + d_offset;
    batch.queued = (available - d_offset) / n_symbols;
    batch.alone = d_under_way == 0;
    batch.start = std::chrono::steady_clock::now();
    try {
        const uint64_t before = d_watched ? inference_cpu_ns() : 0;
        d_model->engine->submit(d_batch_sizes.all()[batch.size]);
        batch.engine_cpu_ns = d_watched ? inference_cpu_ns() - before : 0;
        d_under_way++;
    } catch (const device_lost&) {
        throw;
    } catch (const std::exception& e) {
        drop(batch, std::string("inference failed: ") + e.what());
    }
    return true;
}

/*
 * The slot at offset (in items behind the read pointer), or the first one behind it: what lies
 * between is dropped. Moves offset to its end.
 */
bool receiver_impl::next_slot(slot_in_work& slot, int& offset, int available)
{
    while (available - offset >= n_symbols) {
        const auto slot_index = read_tags(slot.tags, offset);
        const auto place = d_finder.look(d_length_tags, slot_index);
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

/*
 * Tags of the 14 symbols at offset: length tags for the finder, all others that a slot there takes
 * along. \return its slot_index, if tagged
 */
std::optional<uint64_t> receiver_impl::read_tags(std::vector<tag_t>& tags, int offset)
{
    std::optional<uint64_t> slot_index;
    tags.clear();
    d_length_tags.clear();
    for (int port = 0; port < d_parameters.n_rx; port++) {
        const uint64_t first = nitems_read(port) + offset;
        get_tags_in_range(d_port_tags, port, first, first + n_symbols);
        for (const auto& tag : d_port_tags) {
            if (pmt::eq(tag.key, d_len_tag_key)) {
                const bool fits =
                    pmt::is_integer(tag.value) && pmt::to_long(tag.value) == n_symbols;
                d_length_tags.push_back({ port,
                                          static_cast<int>(tag.offset - first),
                                          fits ? "" : pmt::write_string(tag.value) });
                continue;
            }
            if (pmt::eq(tag.key, slot_index_key))
                if (const auto index = to_unsigned(tag.value))
                    slot_index = index;
            const bool repeated = std::any_of(tags.begin(), tags.end(), [&](auto& other) {
                return pmt::eq(tag.key, other.key) && pmt::equal(tag.value, other.value);
            });
            if (port == 0 || !repeated)
                tags.push_back(tag);
        }
    }
    return slot_index;
}

bool receiver_impl::gather(const slot_in_work& slot,
                           int place,
                           const gr_vector_const_void_star& in) const
{
    const int n_floats = 2 * d_slot.n_subcarriers();
    const int fft_size = d_slot.fft_size();
    float* grid = d_model->engine->grid(place);
    float* const first = grid;
    bool finite = true;
    float peak = 0.0f;
    for (int port = 0; port < d_parameters.n_rx; port++) {
        const auto* symbols = static_cast<const gr_complex*>(in[port]) + slot.offset * fft_size;
        for (int symbol = 0; symbol < n_symbols; symbol++, grid += n_floats) {
            const gr_complex* row = symbols + symbol * fft_size + d_slot.first_bin();
            const float largest =
                copy_scaled(reinterpret_cast<const float*>(row), n_floats, 1.0f, grid);
            finite &= std::isfinite(largest);
            peak = std::max(peak, largest);
        }
    }
    if (const float factor = to_unit_power(peak); finite && factor != 1.0f)
        copy_scaled(first, static_cast<int>(grid - first), factor, first);
    // All other symbols have none, in the engine's buffer too: whole grids would flush the caches.
    const auto& pilots = d_slot.pilots(slot.index);
    for (const int symbol : d_slot.dmrs())
        std::copy_n(&pilots[symbol * n_floats],
                    n_floats,
                    d_model->engine->pilots(place) + symbol * n_floats);
    return finite;
}

//! LLRs of the oldest batch that is under way. \return how many
int receiver_impl::collect(uint64_t cpu_start, float* out)
{
    using clock = std::chrono::steady_clock;
    auto& engine = *d_model->engine;
    batch_in_work& batch = d_batches[0];
    d_under_way--;
    const int done = d_under_way > 0 ? static_cast<int>(batch.end - nitems_read(0)) : d_offset;
    const float* llr = nullptr;
    try {
        llr = engine.collect();
    } catch (const device_lost&) {
        throw;
    } catch (const std::exception& e) {
        drop(batch, std::string("inference failed: ") + e.what());
    }
    // Of the time that two batches were under way, each has its part.
    const auto now = clock::now();
    const auto elapsed = now - std::max(batch.start, d_collected);
    d_collected = now;

    int produced = 0;
    if (llr) {
        // A slow minimum: one disturbed inference must not forbid its batch size for ever.
        double& usual = d_model->batch_seconds[batch.size];
        if (batch.alone)
            usual = std::min(std::chrono::duration<double>(elapsed).count(), 1.01 * usual);

        const int llrs_per_slot = n_symbols * d_slot.n_subcarriers() * engine.llr_stride();
        for (int i = 0; i < batch.n; i++) {
            slot_in_work& slot = batch.slots[i];
            slot.received = copy_llrs(
                d_slot, llr + i * llrs_per_slot, engine.llr_stride(), d_llr_sign, out + produced);
            if (slot.received) {
                forward_tags(slot, nitems_written(0) + produced);
                produced += d_slot.n_bits();
                d_slots++;
            } else {
                drop(slot.index, "the model gave NaN or infinite LLRs");
            }
        }
        const auto wall_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count();
        if (d_watched)
            publish_stats(batch, wall_ns, cpu_start);
    }
    consume_each(done);
    d_offset -= done;
    std::rotate(d_batches.begin(), d_batches.begin() + 1, d_batches.end());
    return produced;
}

void receiver_impl::publish_stats(const batch_in_work& batch, uint64_t wall_ns, uint64_t cpu_start)
{
    const uint64_t cpu_ns = inference_cpu_ns() - cpu_start;
    // dict_add would look for the key first
    const auto with = [](const pmt::pmt_t& dict, const pmt::pmt_t& key, const pmt::pmt_t& value) {
        return pmt::dcons(pmt::cons(key, value), dict);
    };
    auto stats = with(d_about, inference_ns_key, pmt::from_uint64(wall_ns / batch.n));
    stats = with(stats, cpu_ns_key, pmt::from_uint64(cpu_ns / batch.n));
    stats = with(stats, engine_cpu_ns_key, pmt::from_uint64(batch.engine_cpu_ns / batch.n));
    stats = with(stats, queue_depth_key, pmt::from_long(batch.queued));
    stats = with(stats, batch_key, pmt::from_long(batch.n));
    for (int i = 0; i < batch.n; i++)
        if (batch.slots[i].received)
            message_port_pub(stats_port,
                             with(stats, slot_index_key, pmt::from_uint64(batch.slots[i].index)));
}

void receiver_impl::forward_tags(slot_in_work& slot, uint64_t out_offset)
{
    bool has_index = false;
    for (tag_t& tag : slot.tags) {
        has_index |= pmt::eq(tag.key, slot_index_key);
        tag.offset = out_offset;
        add_item_tag(0, tag);
    }
    if (!has_index)
        add_item_tag(0, out_offset, slot_index_key, pmt::from_uint64(slot.index), d_name);
    add_item_tag(0, out_offset, d_len_tag_key, d_n_bits, d_name);
}

void receiver_impl::drop(uint64_t slot_index, const std::string& reason)
{
    d_dropped++;
    d_unlogged++;
    const auto now = std::chrono::steady_clock::now();
    if (now - d_last_warning >= std::chrono::seconds(1)) {
        d_logger->warn("slot {:d} dropped: {:s} ({:d} since the last warning)",
                       slot_index,
                       reason,
                       d_unlogged);
        d_last_warning = now;
        d_unlogged = 0;
    }
    auto stats = pmt::dict_add(pmt::make_dict(), slot_index_key, pmt::from_uint64(slot_index));
    message_port_pub(stats_port, pmt::dict_add(stats, dropped_key, pmt::intern(reason)));
}

void receiver_impl::drop(const batch_in_work& batch, const std::string& reason)
{
    for (int i = 0; i < batch.n; i++)
        drop(batch.slots[i].index, reason);
}

} // namespace gr::deeprx
