/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "device_engine.h"

#include <torch/script.h>

#include <algorithm>

namespace gr::deeprx {

namespace {

constexpr int runs_until_compiled = 4; // the executor profiles, compiles, and compiles for any size

} // namespace

device_engine::device_engine(model_info info,
                             std::string description,
                             module forward,
                             estimator estimate,
                             c10::Device device,
                             const queue_factory& make_queue,
                             const engine_parameters& p)
    : d_info(std::move(info)), d_description(std::move(description)), d_forward(std::move(forward)),
      d_estimate(std::move(estimate))
{
    const auto host = at::TensorOptions().dtype(at::kFloat).pinned_memory(!device.is_cpu());
    const auto there = at::TensorOptions().dtype(at::kFloat).device(device);
    const int n_sym = p.slot.symbols();
    const int n_sc = p.slot.n_subcarriers();
    for (lane& lane : d_lanes) {
        lane.queue = make_queue();
        lane.grid = at::empty({ p.max_batch, p.n_rx, n_sym, n_sc, 2 }, host);
        lane.pilots = at::empty({ p.max_batch, p.slot.n_layers(), n_sym, n_sc, 2 }, host);
        lane.grid_there = at::empty(lane.grid.sizes(), there);
        lane.pilots_there = at::empty(lane.pilots.sizes(), there);
        write_noise(p, lane.grid.data_ptr<float>(), lane.pilots.data_ptr<float>());
    }

    int64_t stride = 0;
    lane& first = d_lanes[0];
    first.queue->run([&] {
        const c10::InferenceMode guard;
        stride = d_forward(first.grid_there.narrow(0, 0, 1).copy_(first.grid.narrow(0, 0, 1)),
                           first.pilots_there.narrow(0, 0, 1).copy_(first.pilots.narrow(0, 0, 1)))
                     .size(4);
    });
    first.queue->wait();
    for (lane& lane : d_lanes)
        lane.llr = at::empty({ p.max_batch, p.slot.n_layers(), n_sym, n_sc, stride }, host);
    device_engine::estimate(1); // of the wrong shape it is refused here
}

device_engine::~device_engine()
{
    for (lane& lane : d_lanes) {
        try {
            lane.queue->wait(); // before its buffers go
        } catch (const std::exception&) {
        }
    }
}

std::string device_engine::description() const
{
    if (!d_not_recorded.empty())
        return d_description + ", no CUDA graphs: " + d_not_recorded;
    return d_description + (d_lanes[0].recorded.empty() ? "" : ", CUDA graphs");
}

device_queue::work device_engine::receive(lane& lane, int batch) const
{
    return [this, &lane, batch] {
        const c10::InferenceMode guard;
        const auto part = [batch](const at::Tensor& all) { return all.narrow(0, 0, batch); };
        part(lane.grid_there).copy_(part(lane.grid), /*non_blocking=*/true);
        part(lane.pilots_there).copy_(part(lane.pilots), /*non_blocking=*/true);
        const auto llr = d_forward(part(lane.grid_there), part(lane.pilots_there));
        part(lane.llr).copy_(llr, /*non_blocking=*/true);
    };
}

void device_engine::prepare(int batch)
{
    for (lane& lane : d_lanes) {
        const auto task = receive(lane, batch);
        for (int run = 0; run < runs_until_compiled; run++) {
            lane.queue->run(task);
            lane.queue->wait();
        }
        if (!d_not_recorded.empty() || lane.recorded.count(batch))
            continue;
        try {
            lane.recorded[batch] = lane.queue->record(task);
        } catch (const std::exception& e) {
            d_not_recorded = one_line(e);
            lane.recorded.erase(batch);
        }
    }
}

void device_engine::submit(int batch)
{
    lane& lane = d_lanes[d_next];
    const auto recorded = lane.recorded.find(batch);
    lane.queue->run(recorded == lane.recorded.end() ? receive(lane, batch) : recorded->second);
    d_next = 1 - d_next;
    d_under_way++;
}

const float* device_engine::collect()
{
    d_collected = d_under_way == 1 ? 1 - d_next : d_next;
    lane& oldest = d_lanes[d_collected];
    d_under_way--;
    oldest.queue->wait();
    return oldest.llr.data_ptr<float>();
}

const float* device_engine::infer(int batch)
{
    submit(batch);
    return collect();
}

std::optional<estimates> device_engine::estimate(int batch)
{
    if (!d_estimate)
        return std::nullopt;
    lane& lane = d_lanes[d_collected];
    lane.queue->run([&] {
        const c10::InferenceMode guard;
        const auto [channel, noise] =
            d_estimate(lane.grid_there.narrow(0, 0, batch), lane.pilots_there.narrow(0, 0, batch));
        d_channel = channel.to(at::kCPU).contiguous();
        d_noise = noise.to(at::kCPU).contiguous();
    });
    lane.queue->wait();
    return estimates{ d_channel.data_ptr<float>(), d_noise.data_ptr<float>() };
}

} // namespace gr::deeprx
