/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "device_queue.h"
#include "engine.h"

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace gr::deeprx {

/*!
 * \brief Receives slots on a GPU.
 *
 * Two lanes take turns, each with its own buffers (pinned where the host writes and reads) and its
 * own queue: while one computes, the slots of the other are written, copied or read. What a lane
 * does with a batch of one size, copies included, is recorded once and started as one.
 */
class device_engine : public engine
{
public:
    //! LLRs [batch, n_layers, n_sym, n_sc, >= bits] of grids and pilots, all on the device.
    using module = std::function<at::Tensor(const at::Tensor& grid, const at::Tensor& pilots)>;
    //! Channel and noise of the same, as the contract has them; none: the model has no such method.
    using estimator =
        std::function<std::pair<at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&)>;
    using queue_factory = std::function<std::unique_ptr<device_queue>()>;

    /*!
     * \param description  see engine
     * \param make_queue   called once per lane
     * \throws device_lost, std::runtime_error a first batch cannot be received
     */
    device_engine(model_info info,
                  std::string description,
                  module forward,
                  estimator estimate,
                  c10::Device device,
                  const queue_factory& make_queue,
                  const engine_parameters& parameters);
    ~device_engine() override;

    const model_info& info() const override { return d_info; }
    std::string description() const override;
    float* grid(int slot) override { return d_lanes[d_next].grid[slot].data_ptr<float>(); }
    float* pilots(int slot) override { return d_lanes[d_next].pilots[slot].data_ptr<float>(); }
    int llr_stride() const override { return static_cast<int>(d_lanes[0].llr.size(4)); }

    int depth() const override { return static_cast<int>(d_lanes.size()); }
    void submit(int batch) override;
    const float* collect() override;
    const float* infer(int batch) override;
    std::optional<estimates> estimate(int batch) override;
    void prepare(int batch) override;

private:
    struct lane {
        std::unique_ptr<device_queue> queue;
        at::Tensor grid;   // float32 [max_batch, n_rx, n_sym, n_sc, 2]
        at::Tensor pilots; // float32 [max_batch, n_layers, n_sym, n_sc, 2]
        at::Tensor llr;    // float32 [max_batch, n_layers, n_sym, n_sc, >= bits]
        at::Tensor grid_there;
        at::Tensor pilots_there;
        std::map<int, device_queue::work> recorded; // by batch
    };

    device_queue::work receive(lane& lane, int batch) const;

    const model_info d_info;
    const std::string d_description;
    const module d_forward;
    const estimator d_estimate;
    std::string d_not_recorded; // why, where the model cannot be
    std::array<lane, 2> d_lanes;
    int d_next = 0;                // lane of the next batch
    int d_under_way = 0;           // batches
    int d_collected = 0;           // lane of the last batch that ended
    at::Tensor d_channel, d_noise; // of it, on the host
};

} // namespace gr::deeprx
