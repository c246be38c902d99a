/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_estimates.h"
#include "receiver_messages.h"
#include "samples.h"
#include "tags.h"

#include <cmath>
#include <complex>

namespace gr::deeprx {

namespace {

const pmt::pmt_t channel_key = pmt::mp("channel");
const pmt::pmt_t noise_key = pmt::mp("noise");
constexpr size_t most_held = size_t{ 64 } << 20; // bytes

} // namespace

const std::string slot_estimates::classical_name = "sure-lmmse";

slot_estimates::slot_estimates(const slot_geometry& slot, int n_rx)
    : d_slot(slot), d_n_rx(n_rx), d_channel_size(size_t(slot.n_layers()) * n_rx * slot.n_re())
{
}

estimates slot_estimates::of_slot(const estimates& of_batch, int position) const
{
    return { of_batch.channel + position * 2 * d_channel_size, of_batch.noise + position * d_n_rx };
}

estimates slot_estimates::classical(const std::vector<const void*>& streams,
                                    const slot_in_work& slot)
{
    if (!d_classical) {
        d_classical = std::make_unique<classical_receiver>(
            layout_of(d_slot), d_n_rx, classical_kind(classical_name));
        d_grid.resize(size_t(2) * d_n_rx * d_slot.n_re());
        d_pilots.resize(size_t(2) * d_slot.n_layers() * d_slot.n_re());
        d_channel.resize(2 * d_channel_size);
        d_noise.resize(d_n_rx);
    }
    copy_grid(d_slot, streams, slot.offset, d_grid.data());
    copy_pilots(d_slot, slot.index, d_pilots.data());
    d_classical->estimate(d_grid.data(), d_pilots.data());
    d_classical->copy_channel(d_channel.data());
    d_classical->copy_noise(d_noise.data());
    return { d_channel.data(), d_noise.data() };
}

bool slot_estimates::has_room()
{
    while (!d_sent.empty() && d_sent.front().expired())
        d_sent.pop_front();
    return d_sent.size() * d_channel_size * sizeof(std::complex<float>) < most_held;
}

pmt::pmt_t slot_estimates::message(const slot_in_work& slot,
                                   const estimates& of_slot,
                                   const pmt::pmt_t& estimator)
{
    size_t size;
    const auto channel = pmt::make_c32vector(d_channel_size, 0.0f);
    auto* to = reinterpret_cast<float*>(pmt::c32vector_writable_elements(channel, size));
    bool finite = std::isfinite(
        copy_scaled(of_slot.channel, static_cast<int>(2 * d_channel_size), 1.0f / slot.factor, to));
    const auto noise = pmt::make_f32vector(d_n_rx, 0.0f);
    float* variance = pmt::f32vector_writable_elements(noise, size);
    for (int antenna = 0; antenna < d_n_rx; antenna++) {
        variance[antenna] = of_slot.noise[antenna] / slot.factor / slot.factor;
        finite &= std::isfinite(variance[antenna]);
    }
    if (!finite)
        return pmt::PMT_NIL;
    d_sent.push_back(channel);
    auto message = pmt::dict_add(pmt::make_dict(), slot_index_key, pmt::from_uint64(slot.index));
    message = pmt::dict_add(message, channel_key, channel);
    message = pmt::dict_add(message, noise_key, noise);
    return pmt::dict_add(message, estimator_key, estimator);
}

} // namespace gr::deeprx
