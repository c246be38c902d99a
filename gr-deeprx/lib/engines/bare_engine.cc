/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "engine.h"
#include "fresh_jails.h"
#include "parameters.h"
#include "samples.h"
#include "trusted.h"

#include <gnuradio/deeprx/bare_engine.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <tuple>

namespace gr::deeprx {

//! Fresh ones that the engines of a file have had together, as long as there is one of them. Who
//! gives it other limits gives it another chance.
class bare_engine::jails_of_file
{
public:
    static std::shared_ptr<jails_of_file> of(const std::string& sha256, const jail_limits& limits)
    {
        using key = std::tuple<std::string, double, double, double, double>;
        static std::mutex lock;
        static std::map<key, std::weak_ptr<jails_of_file>> files;
        const std::lock_guard<std::mutex> guard(lock);
        auto& file =
            files[{ sha256, limits.memory, limits.load_s, limits.batch_s, limits.most_batch_s }];
        auto jails = file.lock();
        if (!jails)
            file = jails = std::make_shared<jails_of_file>();
        return jails;
    }

    //! \throws jail_lost the line of a file that has had them all
    void expect_one_left(const model_info& info)
    {
        const std::lock_guard<std::mutex> lock(d_mutex);
        expect_one(info);
    }

    //! \return when it may be made \throws as above
    fresh_jails::clock::time_point take(const model_info& info)
    {
        const std::lock_guard<std::mutex> lock(d_mutex);
        expect_one(info);
        const auto at = std::max(fresh_jails::clock::now(), d_fresh.next());
        d_fresh.take(at);
        return at;
    }

private:
    void expect_one(const model_info& info) const
    {
        if (d_fresh.none_left())
            throw jail_lost(fresh_jails::refusal(info));
    }

    std::mutex d_mutex;
    fresh_jails d_fresh;
};

bare_engine::bare_engine(const std::string& model,
                         const slot_config& slot,
                         int n_rx,
                         const std::string& device,
                         int threads,
                         int max_batch,
                         const std::string& engine,
                         const std::vector<std::string>& trust,
                         const std::optional<int>& sealed,
                         const std::optional<jail_limits>& jail)
    : d_slot(std::make_unique<slot_geometry>(slot)),
      d_threads(std::make_unique<thread_claim>(threads))
{
    const engine_parameters parameters{ *d_slot,          n_rx,
                                        device,           threads,
                                        max_batch,        engine,
                                        hashes_of(trust), jail.value_or(usual_jail_limits()) };
    check_range(parameters);
    set_inference_threads(threads);
    d_grid_floats = size_t(n_rx) * d_slot->n_re() * 2;
    d_pilot_floats = size_t(d_slot->n_layers()) * d_slot->n_re() * 2;
    d_engine =
        load_engine(model, parameters, sealed ? std::optional<model_bytes>(*sealed) : std::nullopt);
    d_jails = jails_of_file::of(d_engine->info().sha256, parameters.jail);
    if (d_engine->renewal()) // it has a jail
        d_jails->expect_one_left(d_engine->info());
    d_batches = { 1, max_batch };
    naming_file(model, [this] { d_engine->warm_up(d_batches); });
}

bare_engine::~bare_engine() = default;

const std::string& bare_engine::name() const { return d_engine->info().name; }

std::string bare_engine::description() const { return d_engine->description(); }

int bare_engine::llr_stride() const { return d_engine->llr_stride(); }

const float* bare_engine::infer(const float* y, const float* p, int batch)
{
    expect_same_process();
    if (d_jail_lost)
        renew();
    for (int slot = 0; slot < batch; slot++) {
        std::copy_n(y + slot * d_grid_floats, d_grid_floats, d_engine->grid(slot));
        std::copy_n(p + slot * d_pilot_floats, d_pilot_floats, d_engine->pilots(slot));
    }
    const float* llrs = nullptr;
    try {
        llrs = d_engine->infer(batch);
    } catch (const jail_lost&) {
        d_jail_lost = true;
        throw;
    }
    expect_finite(llrs, batch);
    return llrs;
}

//! As model_swap does, but that slots wait here.
void bare_engine::renew()
{
    std::this_thread::sleep_until(d_jails->take(d_engine->info()));
    auto fresh = d_engine->renewal()();
    fresh->warm_up(d_batches);
    d_engine = std::move(fresh);
    d_jail_lost = false;
}

//! Of what carries data: elsewhere a model may give what it likes.
void bare_engine::expect_finite(const float* llrs, int batch)
{
    d_data_llrs.resize(size_t(d_slot->n_re()) * llr_bits(*d_slot));
    for (int slot = 0; slot < batch; slot++)
        for (int layer = 0; layer < d_slot->n_layers(); layer++) {
            if (!copy_llrs(*d_slot, layer, llrs, llr_stride(), 1.0f, d_data_llrs.data()))
                throw std::runtime_error(not_finite);
            llrs += size_t(d_slot->n_re()) * llr_stride();
        }
}

std::vector<bare_engine::duration> bare_engine::time(int calls, int batch)
{
    expect_same_process();
    using clock = std::chrono::steady_clock;
    std::vector<duration> took(calls);
    for (auto& [wall, cpu] : took) {
        const uint64_t cpu_start = inference_cpu_ns() + d_engine->cpu_ns();
        const auto start = clock::now();
        d_engine->infer(batch);
        wall = std::chrono::duration<double>(clock::now() - start).count();
        cpu = (inference_cpu_ns() + d_engine->cpu_ns() - cpu_start) * 1e-9;
    }
    return took;
}

std::vector<bare_engine::stage> bare_engine::time_stages(int calls)
{
    expect_same_process();
    std::vector<stage> stages;
    for (const auto& s : d_engine->time_stages(calls))
        stages.push_back({ s.name,
                           std::string(s.precision),
                           double(s.calls) / calls,
                           s.flop / calls,
                           s.bytes / calls,
                           s.seconds / calls });
    return stages;
}

} // namespace gr::deeprx
