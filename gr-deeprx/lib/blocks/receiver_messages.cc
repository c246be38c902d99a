/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "receiver_messages.h"
#include "pmt_values.h"
#include "tags.h"

namespace gr::deeprx {

namespace {

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
const pmt::pmt_t model_error_key = pmt::mp("model_error");
const pmt::pmt_t model_replaced_key = pmt::mp("model_replaced");
const pmt::pmt_t model_lost_key = pmt::mp("model_lost");
const pmt::pmt_t estimate_error_key = pmt::mp("estimate_error");
const pmt::pmt_t dropped_key = pmt::mp("dropped");
const pmt::pmt_t path_key = pmt::mp("path");
const pmt::pmt_t at_slot_key = pmt::mp("at_slot");

//! dict_add() would look for the key first.
pmt::pmt_t with(const pmt::pmt_t& dict, const pmt::pmt_t& key, const pmt::pmt_t& value)
{
    return pmt::dcons(pmt::cons(key, value), dict);
}

} // namespace

std::optional<model_request> to_model_request(const pmt::pmt_t& message)
{
    if (pmt::is_symbol(message))
        return model_request{ pmt::symbol_to_string(message), 0 };
    const auto path = entry(message, path_key);
    const auto at_slot = entry(message, at_slot_key);
    const auto first = pmt::is_null(at_slot) ? 0 : to_unsigned(at_slot);
    if (!pmt::is_symbol(path) || !first)
        return std::nullopt;
    return model_request{ pmt::symbol_to_string(path), *first };
}

pmt::pmt_t to_message(const model_request& request)
{
    const auto message = with(pmt::make_dict(), path_key, pmt::intern(request.path));
    return with(message, at_slot_key, pmt::from_uint64(request.at_slot));
}

receiver_messages::receiver_messages(const model_info& info,
                                     const std::string& engine,
                                     int n_prb,
                                     int n_rx)
    : d_model(pmt::make_dict())
{
    d_model = with(d_model, model_key, pmt::intern(info.name));
    d_model = with(d_model, model_sha256_key, pmt::intern(info.sha256));
    d_model = with(d_model, engine_key, pmt::intern(engine));
    d_model = with(d_model, flop_per_slot_key, pmt::from_uint64(info.flop_per_slot(n_prb, n_rx)));
}

pmt::pmt_t receiver_messages::about(const batch& batch) const
{
    const auto per_slot = [&](uint64_t ns) { return pmt::from_uint64(ns / batch.slots); };
    auto about = with(d_model, inference_ns_key, per_slot(batch.wall_ns));
    about = with(about, cpu_ns_key, per_slot(batch.cpu_ns));
    about = with(about, engine_cpu_ns_key, per_slot(batch.engine_cpu_ns));
    about = with(about, queue_depth_key, pmt::from_long(batch.queued));
    about = with(about, batch_key, pmt::from_long(batch.slots));
    return pmt::is_null(batch.estimator) ? about : with(about, estimator_key, batch.estimator);
}

pmt::pmt_t receiver_messages::slot(const pmt::pmt_t& about, uint64_t slot_index)
{
    return with(about, slot_index_key, pmt::from_uint64(slot_index));
}

pmt::pmt_t receiver_messages::dropped(uint64_t slot_index, const std::string& reason)
{
    const auto message = with(pmt::make_dict(), slot_index_key, pmt::from_uint64(slot_index));
    return with(message, dropped_key, text_symbol(reason));
}

pmt::pmt_t receiver_messages::model_loaded() const
{
    const auto of = [&](const pmt::pmt_t& key) {
        return pmt::dict_ref(d_model, key, pmt::PMT_NIL);
    };
    auto message = with(pmt::make_dict(), model_loaded_key, of(model_key));
    message = with(message, model_sha256_key, of(model_sha256_key));
    return with(message, engine_key, of(engine_key));
}

pmt::pmt_t receiver_messages::model_error(const std::string& why)
{
    return with(pmt::make_dict(), model_error_key, text_symbol(why));
}

pmt::pmt_t receiver_messages::model_replaced(const std::string& line)
{
    return with(pmt::make_dict(), model_replaced_key, text_symbol(line));
}

pmt::pmt_t receiver_messages::answer(const pmt::pmt_t& message, const std::string& path)
{
    return with(message, path_key, pmt::intern(path));
}

pmt::pmt_t receiver_messages::model_lost(const std::string& line)
{
    return with(pmt::make_dict(), model_lost_key, text_symbol(line));
}

pmt::pmt_t receiver_messages::estimate_error(const std::string& why)
{
    return with(pmt::make_dict(), estimate_error_key, text_symbol(why));
}

} // namespace gr::deeprx
