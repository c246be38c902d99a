/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_engine.h"
#include "classical_receiver.h"

#include <algorithm>

namespace gr::deeprx {

namespace {

model_info info_of(const std::string& name)
{
    model_info info{};
    info.name = name;
    info.precision = "float32";
    info.bits = 8;
    return info;
}

class classical_engine : public engine
{
public:
    classical_engine(const std::string& name, const engine_parameters& p)
        : d_info(info_of(name)), d_receiver(layout_of(p.slot), p.n_rx, classical_kind(name)),
          d_n_rx(p.n_rx), d_grid_floats(2 * p.n_rx * p.slot.n_re()),
          d_pilot_floats(2 * p.slot.n_layers() * p.slot.n_re()),
          d_llr_floats(p.slot.n_layers() * p.slot.n_re() * d_receiver.llr_stride()),
          d_grids(p.grids, p.max_batch * d_grid_floats),
          d_pilots(p.pilots, p.max_batch * d_pilot_floats),
          d_llrs(p.llrs, p.max_batch * d_llr_floats)
    {
        write_noise(p, d_grids.data, d_pilots.data);
    }

    const model_info& info() const override { return d_info; }
    std::string description() const override
    {
        return std::string("native, float32, ") + classical_receiver::best().instructions;
    }
    float* grid(int slot) override { return d_grids.data + slot * d_grid_floats; }
    float* pilots(int slot) override { return d_pilots.data + slot * d_pilot_floats; }
    int llr_stride() const override { return d_receiver.llr_stride(); }

    const float* infer(int batch) override
    {
        for (int slot = 0; slot < batch; slot++)
            d_receiver.receive(grid(slot), pilots(slot), d_llrs.data + slot * d_llr_floats);
        return d_llrs.data;
    }

    std::optional<estimates> estimate(int batch) override
    {
        const size_t channel_floats = d_pilot_floats * d_n_rx;
        d_channels.resize(batch * channel_floats);
        d_noise.resize(batch * d_n_rx);
        for (int slot = 0; slot < batch; slot++) {
            d_receiver.estimate(grid(slot), pilots(slot));
            d_receiver.copy_channel(&d_channels[slot * channel_floats]);
            d_receiver.copy_noise(&d_noise[slot * d_n_rx]);
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
    classical_receiver d_receiver;
    const int d_n_rx;
    const size_t d_grid_floats, d_pilot_floats, d_llr_floats; // of a slot
    floats d_grids, d_pilots, d_llrs;
    std::vector<float> d_channels, d_noise; // where somebody asks for them
};

} // namespace

bool is_classical(const std::string& name)
{
    const auto& names = classical_names();
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::unique_ptr<engine> make_classical_engine(const std::string& name, const engine_parameters& p)
try {
    if (p.device != "cpu")
        throw std::runtime_error("it runs on the CPU, the receiver has device=\"" + p.device + '"');
    if (p.engine != "auto")
        throw std::runtime_error("it is no model file and needs no engine, the receiver has "
                                 "engine=\"" +
                                 p.engine + '"');
    return std::make_unique<classical_engine>(name, p);
} catch (const std::exception& e) {
    throw std::runtime_error("receiver '" + name + "': " + e.what());
}

} // namespace gr::deeprx
