/* SPDX-License-Identifier: GPL-3.0-or-later */

// The GPU's path without a GPU: a thread that works through its queue in its own time takes the
// place of the stream, and what it was told later would be seen in the LLRs.

#include "device_engine.h"
#include "slot_of.h"
#include "thread_queue.h"

#include <ATen/ATen.h>
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <future>
#include <mutex>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(device_engine_suite)

namespace {

constexpr int max_batch = 4;
constexpr int bits = 4;

//! LLRs are the first samples and pilots of a resource element.
at::Tensor echo(const at::Tensor& y, const at::Tensor& p)
{
    return at::cat({ y.narrow(1, 0, 1), p }, -1);
}

struct fixture {
    explicit fixture(device_engine::module module = echo, device_engine::estimator estimate = {})
        : slot(slot_of(6, "16QAM")),
          engine({},
                 "test",
                 std::move(module),
                 std::move(estimate),
                 c10::kCPU,
                 [this] { return std::make_unique<thread_queue>(device); },
                 { slot, 1, "cuda", 1, max_batch, "torchscript" })
    {
        device.issued = 0;
    }

    //! Writes a batch whose every value is its number.
    void write(int batch, float number)
    {
        for (int i = 0; i < batch; i++) {
            std::fill_n(engine.grid(i), floats(), number + 0.1f * i);
            std::fill_n(engine.pilots(i), floats(), -number);
        }
    }

    void check(const float* llr, int batch, float number) const
    {
        for (int i = 0; i < batch; i++, llr += 2 * floats()) {
            BOOST_REQUIRE_EQUAL(llr[0], number + 0.1f * i);
            BOOST_REQUIRE_EQUAL(llr[2 * floats() - 4], number + 0.1f * i);
            BOOST_REQUIRE_EQUAL(llr[2 * floats() - 1], -number);
        }
    }

    int floats() const { return slot_geometry::n_symbols * slot.n_subcarriers() * 2; }

    thread_queue::device device;
    slot_geometry slot;
    device_engine engine;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(llrs_are_those_of_the_batch_that_was_written, fixture)
{
    for (const int batch : { 1, 4, 2 }) {
        write(batch, 10.0f * batch);
        check(engine.infer(batch), batch, 10.0f * batch);
    }
    BOOST_CHECK_EQUAL(engine.llr_stride(), bits);
}

//! Two batches under way: neither writing nor reading one touches the other.
BOOST_FIXTURE_TEST_CASE(batches_overlap, fixture)
{
    for (const int batch : { 1, 2, 4 })
        engine.prepare(batch);
    constexpr int batches = 20;
    const auto size = [](int i) { return 1 << i % 3; };
    BOOST_REQUIRE_EQUAL(engine.depth(), 2);
    for (int i = 0; i < batches + 2; i++) {
        if (i >= 2)
            check(engine.collect(), size(i - 2), float(i - 2));
        if (i < batches) {
            write(size(i), float(i));
            engine.submit(size(i));
        }
    }
}

//! Estimates are those of the batch that was collected, whatever is under way behind it.
BOOST_AUTO_TEST_CASE(estimates_are_those_of_the_batch_that_ended)
{
    fixture f(echo, [](const at::Tensor& y, const at::Tensor& p) {
        return std::pair(y.unsqueeze(1), p.mean({ 1, 2, 3, 4 }).unsqueeze(1));
    });
    f.engine.prepare(2); // recorded, they are the same
    for (int i = 0; i < 12; i++) {
        if (i >= 2) {
            f.check(f.engine.collect(), 2, float(i - 2));
            const auto given = f.engine.estimate(2);
            BOOST_REQUIRE(given.has_value());
            BOOST_REQUIRE_EQUAL(given->channel[0], float(i - 2));
            BOOST_REQUIRE_EQUAL(given->channel[2 * f.floats() - 1], float(i - 2) + 0.1f);
            BOOST_REQUIRE_CLOSE(given->noise[1], float(2 - i), 1e-3);
        }
        f.write(2, float(i));
        f.engine.submit(2);
    }
    f.engine.collect();
    f.engine.collect();
}

BOOST_FIXTURE_TEST_CASE(a_model_without_estimates_gives_none, fixture)
{
    engine.infer(1);
    BOOST_CHECK(!engine.estimate(1).has_value());
    BOOST_CHECK_EQUAL(device.issued.load(), 1);
}

BOOST_AUTO_TEST_CASE(estimates_that_cannot_be_are_refused_when_it_is_made)
{
    const auto fails = [](const at::Tensor&,
                          const at::Tensor&) -> std::pair<at::Tensor, at::Tensor> {
        throw std::runtime_error("no shape");
    };
    BOOST_CHECK_THROW(fixture(echo, fails), std::runtime_error);
}

//! The host goes on while the device works.
BOOST_FIXTURE_TEST_CASE(submit_does_not_wait, fixture)
{
    std::unique_lock<std::mutex> busy(device.busy);
    auto submitted = std::async(std::launch::async, [this] {
        engine.submit(1);
        engine.submit(1);
    });
    const auto status = submitted.wait_for(std::chrono::seconds(30));
    busy.unlock();
    BOOST_CHECK(status == std::future_status::ready);
    submitted.get();
    engine.collect();
    engine.collect();
}

BOOST_FIXTURE_TEST_CASE(a_prepared_batch_is_replayed, fixture)
{
    engine.prepare(2);
    engine.prepare(2);
    BOOST_CHECK_EQUAL(device.recorded, 2); // once per lane
    device.issued = 0;
    for (int i = 0; i < 6; i++) {
        write(2, float(i));
        check(engine.infer(2), 2, float(i));
    }
    BOOST_CHECK_EQUAL(device.replayed.load(), 6);
    BOOST_CHECK_EQUAL(device.issued.load(), 0);
    BOOST_CHECK_EQUAL(engine.description(), "test, CUDA graphs");

    write(3, 7.0f); // a size that nobody prepared
    check(engine.infer(3), 3, 7.0f);
    BOOST_CHECK_EQUAL(device.issued.load(), 1);
}

//! A model that synchronises cannot be recorded: it runs, and the description says why not.
BOOST_FIXTURE_TEST_CASE(a_model_that_cannot_be_recorded_runs, fixture)
{
    device.records = false;
    for (const int batch : { 1, 2 }) {
        engine.prepare(batch);
        write(batch, 3.0f);
        check(engine.infer(batch), batch, 3.0f);
    }
    BOOST_CHECK_EQUAL(engine.description(),
                      "test, no CUDA graphs: operation not permitted when stream is capturing");
}

BOOST_FIXTURE_TEST_CASE(a_lost_device_says_so, fixture)
{
    engine.prepare(1);
    device.lost = true;
    for (int i = 0; i < 3; i++)
        BOOST_CHECK_EXCEPTION(engine.infer(1), device_lost, [](const device_lost& e) {
            return e.what() == std::string("cuda:0 is lost: unspecified launch failure");
        });
}

BOOST_AUTO_TEST_CASE(an_error_is_that_of_its_batch)
{
    bool fails = false;
    fixture f([&fails](const at::Tensor& y, const at::Tensor& p) {
        if (fails)
            throw std::runtime_error("out of memory");
        return echo(y, p);
    });
    fails = true;
    BOOST_CHECK_THROW(f.engine.infer(1), std::runtime_error);
    fails = false;
    f.write(1, 5.0f);
    f.check(f.engine.infer(1), 1, 5.0f);
}

BOOST_AUTO_TEST_SUITE_END()
