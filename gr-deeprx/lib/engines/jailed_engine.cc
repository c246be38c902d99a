/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "jailed_engine.h"
#include "aligned_floats.h"
#include "jail_process.h"
#include "model_archive.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <stdexcept>
#include <thread>
#include <vector>

namespace gr::deeprx {

namespace {

//! Where a file takes too long before the first slot comes, says what its user may do.
void advising(const std::function<void()>& load)
try {
    load();
} catch (const jail_too_slow& e) {
    throw jail_lost(std::string(e.what()) +
                    "; --jail-load and --jail-batch (the block's jail) allow it more, "
                    "--trust (its trust) does without a jail, if you know who made it");
}

class jailed_engine : public engine
{
public:
    jailed_engine(const model_bytes& file, const model_info& info, const engine_parameters& p)
        : d_file(file), d_parameters(p), d_info(info),
          d_grid_floats(size_t(p.n_rx) * p.slot.n_re() * 2),
          d_pilot_floats(size_t(p.slot.n_layers()) * p.slot.n_re() * 2),
          d_jail(file.descriptor(), file.view().size(), p),
          d_llr(d_pilot_floats / 2 * llr_bits(p.slot) * p.max_batch)
    {
        advising([&] { d_jail.call(jail_operation::load, 0, p.jail.load_s); });
        d_description = d_jail.text() + ", jailed";
        write_noise(p, d_jail.grids(), d_jail.pilots());
    }

    const model_info& info() const override { return d_info; }
    std::string description() const override { return d_description; }
    float* grid(int slot) override { return d_jail.grids() + slot * d_grid_floats; }
    float* pilots(int slot) override { return d_jail.pilots() + slot * d_pilot_floats; }
    int llr_stride() const override { return llr_bits(d_parameters.slot); }
    bool any_thread() const override { return true; }
    uint64_t cpu_ns() const override { return d_jail.cpu_ns(); }

    void prepare(int batch) override
    {
        advising([&] { d_jail.call(jail_operation::prepare, batch, d_parameters.jail.load_s); });
        const auto start = std::chrono::steady_clock::now();
        advising([&] { infer(batch); });
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        d_patience[batch] = d_parameters.jail.patience(took.count());
    }

    const float* infer(int batch) override
    {
        follow();
        d_jail.call(jail_operation::infer, batch, patience(batch));
        // Once: from here on nobody changes them.
        std::copy_n(d_jail.llrs(), batch * d_pilot_floats / 2 * llr_stride(), d_llr.data());
        return d_llr.data();
    }

    std::optional<estimates> estimate(int batch) override
    {
        follow();
        if (!d_jail.call(jail_operation::estimate, batch, patience(batch)))
            return std::nullopt;
        const size_t n_rx = d_parameters.n_rx, channel_floats = batch * n_rx * d_pilot_floats;
        d_channels.assign(d_jail.channels(), d_jail.channels() + channel_floats);
        d_noise.assign(d_jail.noise(), d_jail.noise() + batch * n_rx);
        return estimates{ d_channels.data(), d_noise.data() };
    }

    void stay_bound() override { d_bound = true; }

    std::function<std::unique_ptr<engine>()> renewal() const override
    {
        return [file = d_file, info = d_info, parameters = d_parameters] {
            return std::make_unique<jailed_engine>(file, info, parameters);
        };
    }

private:
    //! Seconds that a batch may take.
    double patience(int batch) const
    {
        const auto entry = d_patience.find(batch);
        return entry == d_patience.end() ? d_parameters.jail.most_batch_s : entry->second;
    }

    //! To the cores of the thread that calls, when another one does.
    void follow()
    {
        if (!d_bound || d_caller == std::this_thread::get_id())
            return;
        d_caller = std::this_thread::get_id();
        cpu_set_t cores;
        if (sched_getaffinity(0, sizeof(cores), &cores) == 0)
            d_jail.bind(cores);
    }

    const model_bytes d_file;
    const engine_parameters d_parameters;
    const model_info d_info;
    const size_t d_grid_floats;  // of a slot
    const size_t d_pilot_floats; // of a slot
    jail_process d_jail;
    std::string d_description;
    aligned_floats d_llr;                   // [max_batch, n_layers, n_sym, n_sc, bits]
    std::vector<float> d_channels, d_noise; // where somebody asks for them
    std::map<int, double> d_patience;       // seconds, by batch
    bool d_bound = false;
    std::thread::id d_caller;
};

} // namespace

std::unique_ptr<engine> make_jailed_engine(const model_archive& archive, const engine_parameters& p)
{
    const auto info = stated_info(archive, p.slot, p.n_rx, /*on_cuda=*/false);
    return std::make_unique<jailed_engine>(archive.bytes(), info, p);
}

void check_in_jail(const model_archive& archive, const engine_parameters& p)
{
    stated_info(archive, p.slot, p.n_rx, /*on_cuda=*/false);
    const auto& file = archive.bytes();
    jail_process jail(file.descriptor(), file.view().size(), p);
    advising([&] { jail.call(jail_operation::check, 0, p.jail.load_s); });
}

} // namespace gr::deeprx
