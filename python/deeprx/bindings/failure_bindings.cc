/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "bindings.h"

#include <pybind11/stl.h>

#include <gnuradio/deeprx/engines.h>
#include <gnuradio/deeprx/receiver.h>

#include <gnuradio/block_registry.h> // needs a block's header before it
#include <gnuradio/logger.h>

#include <spdlog/sinks/base_sink.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

namespace py = pybind11;

namespace {

//! Tells Python, on threads of their own, as a block that has failed may hold what Python waits
//! for; none of them may be under way when the interpreter ends.
class failure_teller
{
public:
    void tell()
    {
        std::lock_guard<std::mutex> lock(d_mutex);
        if (d_closed)
            return;
        d_under_way++;
        std::thread([this] {
            {
                py::gil_scoped_acquire python;
                try {
                    py::module::import("gnuradio.deeprx.blocks.guarded")
                        .attr("end_failed_flowgraphs")();
                } catch (py::error_already_set& error) {
                    error.discard_as_unraisable("gnuradio.deeprx");
                }
            }
            std::lock_guard<std::mutex> done(d_mutex);
            d_under_way--;
            d_changed.notify_all();
        }).detach();
    }

    void close()
    {
        py::gil_scoped_release others;
        std::unique_lock<std::mutex> lock(d_mutex);
        d_closed = true;
        d_changed.wait(lock, [this] { return d_under_way == 0; });
    }

private:
    std::mutex d_mutex;
    std::condition_variable d_changed;
    int d_under_way = 0;
    bool d_closed = false;
};

failure_teller& teller()
{
    static auto* const only = new failure_teller; // blocks may fail as long as the process lives
    return *only;
}

void end_failed_flowgraphs() { teller().tell(); }

/*
 * What ended the threads of C++ blocks. GNU Radio logs an exception in work() or in a handler, and
 * the flowgraph around that block waits for ever: nobody but the log is told. It is stopped here.
 */
class thread_failures : public spdlog::sinks::base_sink<std::mutex>
{
public:
    //! \return what ended a block's thread; empty: nothing
    std::string of(const std::string& identifier)
    {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto failure = d_failures.find(identifier);
        return failure == d_failures.end() ? "" : failure->second;
    }

private:
    // "ERROR thread[thread-per-block[1]: <block NAME(ID)>]: WHAT"
    void sink_it_(const spdlog::details::log_msg& message) override
    {
        if (fmt::string_view(message.logger_name) != fmt::string_view("thread_body_wrapper"))
            return;
        const std::string line(message.payload.data(), message.payload.size());
        const auto name = line.find("<block "), end = line.find(">]: ");
        if (line.rfind("ERROR thread[", 0) != 0 || name == line.npos || end == line.npos)
            return;
        d_failures[line.substr(name + 7, end - name - 7)] = line.substr(end + 4);
        end_failed_flowgraphs();
    }
    void flush_() override {}

    std::map<std::string, std::string> d_failures;
};

std::string block_failure(const std::string& alias)
try {
    static const auto failures = [] {
        auto sink = std::make_shared<thread_failures>();
        gr::logging::singleton().add_default_sink(sink);
        return sink;
    }();
    const auto block = global_block_registry.block_lookup(pmt::intern(alias));
    if (const auto receiver = std::dynamic_pointer_cast<gr::deeprx::receiver>(block))
        if (const auto error = receiver->error(); !error.empty())
            return error;
    const auto failure = failures->of(block->identifier());
    return failure.empty() ? "" : block->name() + ": " + failure;
} catch (const std::runtime_error&) { // no block of this name is left
    return "";
}

void raise_told(const py::handle& kind, const std::exception& error)
{
    const py::object told = kind(error.what());
    told.attr("told") = true;
    PyErr_SetObject(kind.ptr(), told.ptr());
}

//! What the library throws it throws on purpose: deeprx_common.commands tells it from a bug by this
//! mark, which no other library's errors have.
void mark_as_told(std::exception_ptr error)
{
    try {
        std::rethrow_exception(error);
    } catch (const py::error_already_set&) {
        throw;
    } catch (const py::builtin_exception&) { // pybind11's, a std::runtime_error
        throw;
    } catch (const gr::deeprx::jail_lost& e) {
        const auto failure = py::module::import("deeprx_common.commands").attr("Failure");
        PyErr_SetString(failure.ptr(), e.what());
    } catch (const std::invalid_argument& e) {
        raise_told(PyExc_ValueError, e);
    } catch (const std::runtime_error& e) {
        raise_told(PyExc_RuntimeError, e);
    }
}

} // namespace

void bind_failures(py::module& m)
{
    py::register_local_exception_translator(mark_as_told);
    block_failure(""); // from now on the log is listened to
    gr::deeprx::receiver::watch_failures(end_failed_flowgraphs);
    py::module::import("atexit").attr("register")(py::cpp_function([] { teller().close(); }));
    m.def("block_failure",
          block_failure,
          py::arg("alias"),
          "What ended a C++ block while it ran, in one line; empty: nothing did.");
    m.def(
        "system_handler",
        [](const std::shared_ptr<gr::block>& block, const pmt::pmt_t& message) {
            block->system_handler(message);
        },
        py::arg("block"),
        py::arg("message"),
        "What GNU Radio does with a message to a block's port \"system\".");
}
