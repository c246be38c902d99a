/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "native_engine.h"
#include "aligned_floats.h"
#include "slot_threads.h"

#include <algorithm>
#include <vector>

namespace gr::deeprx {

namespace {

class native_engine : public engine
{
public:
    native_engine(const model_info& info,
                  std::vector<std::unique_ptr<slot_receiver>> receivers,
                  const std::string& arithmetic,
                  const engine_parameters& p)
        : d_info(info), d_receivers(std::move(receivers)), d_threads(d_receivers.size()),
          d_description("native, " + arithmetic), d_n_rx(p.n_rx),
          d_grid_floats(2 * p.n_rx * p.slot.n_re()),
          d_pilot_floats(2 * p.slot.n_layers() * p.slot.n_re()),
          d_llr_floats(p.slot.n_layers() * p.slot.n_re() * d_receivers[0]->llr_stride()),
          d_grids(p.grids, p.max_batch * d_grid_floats),
          d_pilots(p.pilots, p.max_batch * d_pilot_floats),
          d_llrs(p.llrs, p.max_batch * d_llr_floats)
    {
        write_noise(p, d_grids.data, d_pilots.data);
    }

    const model_info& info() const override { return d_info; }
    std::string description() const override { return d_description; }
    float* grid(int slot) override { return d_grids.data + slot * d_grid_floats; }
    float* pilots(int slot) override { return d_pilots.data + slot * d_pilot_floats; }
    int llr_stride() const override { return d_receivers[0]->llr_stride(); }
    uint64_t cpu_ns() const override { return d_threads.cpu_ns(); }

    bool any_thread() const override { return true; }
    void prepare(int) override {} // nothing is compiled

    const float* infer(int batch) override
    {
        d_threads.run(batch, [this](int thread, int slot) {
            d_receivers[thread]->receive(
                grid(slot), pilots(slot), d_llrs.data + slot * d_llr_floats);
        });
        return d_llrs.data;
    }

    std::optional<estimates> estimate(int batch) override
    {
        d_channels.resize(batch * d_pilot_floats * d_n_rx);
        d_noise.resize(batch * d_n_rx);
        d_threads.run(batch, [this](int thread, int slot) {
            slot_receiver& receiver = *d_receivers[thread];
            receiver.estimate(grid(slot), pilots(slot));
            receiver.copy_channel(&d_channels[slot * d_pilot_floats * d_n_rx]);
            receiver.copy_noise(&d_noise[slot * d_n_rx]);
        });
        return estimates{ d_channels.data(), d_noise.data() };
    }

    std::vector<stage_clock::stage> time_stages(int calls) override
    {
        stage_clock clock;
        d_receivers[0]->set_clock(&clock);
        for (int i = 0; i < calls; i++)
            d_receivers[0]->receive(grid(0), pilots(0), d_llrs.data);
        d_receivers[0]->set_clock(nullptr);
        return clock.stages();
    }

private:
    //! Memory that was given, or its own.
    struct floats {
        floats(float* given, size_t n) : own(given ? 0 : n), data(given ? given : own.data()) {}
        aligned_floats own;
        float* const data;
    };

    const model_info d_info;
    const std::vector<std::unique_ptr<slot_receiver>> d_receivers; // one for each thread
    slot_threads d_threads;
    const std::string d_description;
    const int d_n_rx;
    const size_t d_grid_floats, d_pilot_floats, d_llr_floats; // of a slot
    floats d_grids, d_pilots, d_llrs;
    std::vector<float> d_channels, d_noise; // where somebody asks for them
};

} // namespace

std::unique_ptr<engine>
make_native_engine(const model_info& info,
                   const std::function<std::unique_ptr<slot_receiver>()>& make,
                   const std::string& arithmetic,
                   const engine_parameters& p)
{
    std::vector<std::unique_ptr<slot_receiver>> receivers(std::min(p.threads, p.max_batch));
    std::generate(receivers.begin(), receivers.end(), make);
    return std::make_unique<native_engine>(info, std::move(receivers), arithmetic, p);
}

} // namespace gr::deeprx
