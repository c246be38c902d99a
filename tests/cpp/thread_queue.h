/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "device_queue.h"
#include "engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace gr::deeprx {

//! A device that is slow, and can be taken away.
class thread_queue : public device_queue
{
public:
    struct device {
        bool records = true;
        std::atomic<bool> lost{ false };
        int recorded = 0;
        std::atomic<int> issued{ 0 }; // tasks that were not recorded
        std::atomic<int> replayed{ 0 };
        std::atomic<int> under_way{ 0 };
        std::atomic<int> most_under_way{ 0 };
        std::mutex busy; // with something else, for as long as a test holds it
    };

    explicit thread_queue(device& device) : d_device(device), d_thread([this] { serve(); }) {}

    ~thread_queue() override
    {
        {
            std::lock_guard<std::mutex> lock(d_mutex);
            d_ends = true;
        }
        d_changed.notify_all();
        d_thread.join();
    }

    void run(const work& task) override
    {
        {
            std::lock_guard<std::mutex> lock(d_mutex);
            d_device.issued++; // a recording takes it back
            d_device.most_under_way = std::max<int>(d_device.most_under_way, ++d_device.under_way);
            d_tasks.push_back(task);
        }
        d_changed.notify_all();
    }

    work record(const work& task) override
    {
        if (!d_device.records)
            throw std::runtime_error("operation not permitted when stream is capturing");
        d_device.recorded++;
        return [this, task] {
            d_device.issued--;
            d_device.replayed++;
            task();
        };
    }

    void wait() override
    {
        std::unique_lock<std::mutex> lock(d_mutex);
        d_changed.wait(lock, [this] { return d_tasks.empty(); });
        if (d_device.lost)
            throw device_lost("cuda:0 is lost: unspecified launch failure");
        if (const auto error = std::exchange(d_error, nullptr))
            std::rethrow_exception(error);
    }

private:
    void serve()
    {
        std::unique_lock<std::mutex> lock(d_mutex);
        for (;;) {
            d_changed.wait(lock, [this] { return d_ends || !d_tasks.empty(); });
            if (d_tasks.empty())
                return;
            const work task = d_tasks.front();
            lock.unlock();
            std::this_thread::sleep_for(std::chrono::microseconds(500));
            std::lock_guard<std::mutex> idle(d_device.busy);
            std::exception_ptr error;
            try {
                task();
            } catch (const std::exception& e) {
                error = std::make_exception_ptr(std::runtime_error(one_line(e)));
            }
            lock.lock();
            d_error = error ? error : d_error;
            d_tasks.pop_front();
            d_device.under_way--;
            d_changed.notify_all();
        }
    }

    device& d_device;
    std::mutex d_mutex;
    std::condition_variable d_changed;
    std::deque<work> d_tasks;
    std::exception_ptr d_error;
    bool d_ends = false;
    std::thread d_thread;
};

} // namespace gr::deeprx
