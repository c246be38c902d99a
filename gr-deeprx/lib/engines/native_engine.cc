/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "native_engine.h"

#include <vector>

namespace gr::deeprx {

namespace {

class native_engine : public engine
{
public:
    native_engine(const model_info& info,
                  std::unique_ptr<slot_receiver> receiver,
                  const std::string& instructions,
                  const engine_parameters& p)
        : d_info(info), d_receiver(std::move(receiver)),
          d_description("native, float32, " + instructions), d_n_rx(p.n_rx),
          d_grid_floats(2 * p.n_rx * p.slot.n_re()),
          d_pilot_floats(2 * p.slot.n_layers() * p.slot.n_re()),
          d_llr_floats(p.slot.n_layers() * p.slot.n_re() * d_receiver->llr_stride()),
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
    int llr_stride() const override { return d_receiver->llr_stride(); }

    bool any_thread() const override { return true; }
    void prepare(int) override {} // nothing is compiled

    const float* infer(int batch) override
    {
        for (int slot = 0; slot < batch; slot++)
            d_receiver->receive(grid(slot), pilots(slot), d_llrs.data + slot * d_llr_floats);
        return d_llrs.data;
    }

    std::optional<estimates> estimate(int batch) override
    {
        const size_t channel_floats = d_pilot_floats * d_n_rx;
        d_channels.resize(batch * channel_floats);
        d_noise.resize(batch * d_n_rx);
        for (int slot = 0; slot < batch; slot++) {
            d_receiver->estimate(grid(slot), pilots(slot));
            d_receiver->copy_channel(&d_channels[slot * channel_floats]);
            d_receiver->copy_noise(&d_noise[slot * d_n_rx]);
        }
        return estimates{ d_channels.data(), d_noise.data() };
    }

private:
    //! Memory that was given, or its own.
    struct floats {
        floats(float* given, size_t n) : own(given ? 0 : n), data(given ? given : own.data()) {}
        std::vector<float> own;
        float* const data;
    };

    const model_info d_info;
    const std::unique_ptr<slot_receiver> d_receiver;
    const std::string d_description;
    const int d_n_rx;
    const size_t d_grid_floats, d_pilot_floats, d_llr_floats; // of a slot
    floats d_grids, d_pilots, d_llrs;
    std::vector<float> d_channels, d_noise; // where somebody asks for them
};

} // namespace

std::unique_ptr<engine> make_native_engine(const model_info& info,
                                           std::unique_ptr<slot_receiver> receiver,
                                           const std::string& instructions,
                                           const engine_parameters& p)
{
    return std::make_unique<native_engine>(info, std::move(receiver), instructions, p);
}

} // namespace gr::deeprx
