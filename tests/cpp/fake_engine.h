/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

//! An engine that only counts.
class fake_engine : public gr::deeprx::engine
{
public:
    explicit fake_engine(std::string name = "fake", std::atomic<int>* alive = nullptr)
        : d_alive(alive)
    {
        d_info.name = std::move(name);
        d_info.sha256 = "sha256 of " + d_info.name;
        if (d_alive)
            ++*d_alive;
    }
    ~fake_engine() override
    {
        if (d_alive)
            --*d_alive;
    }

    const gr::deeprx::model_info& info() const override { return d_info; }
    std::string description() const override { return "fake"; }
    float* grid(int) override { return d_buffer.data(); }
    float* pilots(int) override { return d_buffer.data(); }
    int llr_stride() const override { return 1; }
    const float* infer(int batch) override
    {
        batches.push_back(batch);
        return d_buffer.data();
    }

    std::function<std::unique_ptr<engine>()> renewal() const override { return renew; }

    std::vector<int> batches;                       // that were inferred
    std::function<std::unique_ptr<engine>()> renew; // empty: it has no jail

private:
    gr::deeprx::model_info d_info{};
    std::vector<float> d_buffer = std::vector<float>(16);
    std::atomic<int>* d_alive;
};
