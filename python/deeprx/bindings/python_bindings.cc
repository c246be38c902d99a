/* SPDX-License-Identifier: GPL-3.0-or-later */

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.h"
#include "core_clock.h"

#include <gnuradio/deeprx/bare_engine.h>
#include <gnuradio/deeprx/engines.h>
#include <gnuradio/deeprx/receiver.h>

#include <limits>

namespace py = pybind11;
using gr::deeprx::bare_engine;
using gr::deeprx::jail_limits;
using gr::deeprx::receiver;
using gr::deeprx::slot_config;

namespace {

//! Of a model that ships, by its name, or of any other file.
std::string model_path(const py::object& model)
{
    return py::module::import("deeprx_common.shipped")
        .attr("model_path")(model)
        .cast<std::string>();
}

//! The same; RuntimeError, which lists those that ship, where there is no such file.
std::string existing_model(const py::object& model)
{
    return py::module::import("deeprx_common.shipped")
        .attr("existing_model")(model)
        .cast<std::string>();
}

std::vector<std::string> trusted_paths(const py::object& trust)
{
    if (!py::isinstance<py::list>(trust) && !py::isinstance<py::tuple>(trust))
        throw py::type_error("trust must be a list of files or of their SHA-256, got " +
                             std::string(py::repr(trust)));
    std::vector<std::string> paths;
    for (const auto file : trust)
        paths.push_back(model_path(py::reinterpret_borrow<py::object>(file)));
    return paths;
}

} // namespace

int to_whole(const char* name, const py::object& value)
{
    using limits = std::numeric_limits<int>;
    py::module::import("deeprx_common.checks")
        .attr("check_whole")(name, value, limits::min(), limits::max());
    return value.cast<int>();
}

namespace {

using floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

//! The memfd of a SealedFile; of None none.
std::optional<int> sealed(const py::object& data)
{
    if (data.is_none())
        return std::nullopt;
    if (!py::hasattr(data, "fileno"))
        throw py::type_error("data must be a SealedFile, as read_model_file() gives it");
    return data.attr("fileno")().cast<int>();
}

//! A bare_engine that knows its arrays' shapes.
class python_engine : public bare_engine
{
public:
    python_engine(const py::object& model,
                  const py::object& slot,
                  const py::object& n_rx,
                  const std::string& device,
                  const py::object& threads,
                  const py::object& max_batch,
                  const std::string& engine,
                  const py::object& trust,
                  const py::object& data,
                  const std::optional<jail_limits>& jail)
        : python_engine(data.is_none() ? existing_model(model) : model_path(model),
                        to_slot_config(slot),
                        to_whole("n_rx", n_rx),
                        device,
                        to_whole("threads", threads),
                        to_whole("max_batch", max_batch),
                        engine,
                        trusted_paths(trust),
                        sealed(data),
                        jail)
    {
    }

    floats infer(const floats& y, const floats& p)
    {
        const py::ssize_t batch = y.ndim() ? y.shape(0) : 0;
        check_batch(batch);
        expect("y", y, { batch, d_n_rx, d_n_symbols, d_n_sc, 2 });
        expect("p", p, { batch, d_n_layers, d_n_symbols, d_n_sc, 2 });
        const float* llr = nullptr;
        {
            py::gil_scoped_release release;
            llr = bare_engine::infer(y.data(), p.data(), batch);
        }
        return floats({ batch, d_n_layers, d_n_symbols, d_n_sc, py::ssize_t(llr_stride()) }, llr);
    }

    py::array_t<double> time(int calls, int batch)
    {
        check_batch(batch);
        if (calls < 1)
            throw std::invalid_argument("calls must be 1 or more, got " + std::to_string(calls));
        std::vector<duration> took;
        {
            py::gil_scoped_release release;
            took = bare_engine::time(calls, batch);
        }
        static_assert(sizeof(duration) == 2 * sizeof(double));
        return py::array_t<double>({ py::ssize_t(calls), py::ssize_t(2) }, &took.data()->wall);
    }

    py::list time_stages(int calls)
    {
        if (calls < 1)
            throw std::invalid_argument("calls must be 1 or more, got " + std::to_string(calls));
        std::vector<stage> stages;
        {
            py::gil_scoped_release release;
            stages = bare_engine::time_stages(calls);
        }
        py::list all;
        for (const stage& s : stages)
            all.append(py::dict(py::arg("name") = s.name,
                                py::arg("precision") = s.precision,
                                py::arg("calls") = s.calls,
                                py::arg("flop") = s.flop,
                                py::arg("bytes") = s.bytes,
                                py::arg("seconds") = s.seconds));
        return all;
    }

private:
    python_engine(const std::string& model,
                  const slot_config& slot,
                  int n_rx,
                  const std::string& device,
                  int threads,
                  int max_batch,
                  const std::string& engine,
                  const std::vector<std::string>& trust,
                  const std::optional<int>& data,
                  const std::optional<jail_limits>& jail)
        : bare_engine(model, slot, n_rx, device, threads, max_batch, engine, trust, data, jail),
          d_n_rx(n_rx), d_n_layers(slot.users.size()), d_n_symbols(slot.n_symbols),
          d_n_sc(12 * slot.n_prb), d_max_batch(max_batch)
    {
    }

    void check_batch(py::ssize_t batch) const
    {
        if (batch < 1 || batch > d_max_batch)
            throw std::invalid_argument(
                "a batch must be 1 to max_batch=" + std::to_string(d_max_batch) + " slots, got " +
                std::to_string(batch));
    }

    static void expect(const char* name, const floats& array, const std::vector<py::ssize_t>& shape)
    {
        if (std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()) != shape)
            throw std::invalid_argument(
                py::str("{} must have shape {}, got {}")
                    .format(name, py::tuple(py::cast(shape)), array.attr("shape")));
    }

    const py::ssize_t d_n_rx, d_n_layers, d_n_symbols, d_n_sc;
    const int d_max_batch;
};

struct interrupted {
};

//! Ctrl-C ends a call that waits for a jail.
void bind_interruption()
{
    gr::deeprx::watch_jails([] {
        if (PyGILState_Check() && PyErr_CheckSignals()) // Python's exception is set
            throw interrupted();
    });
    py::register_exception_translator([](std::exception_ptr error) {
        try {
            std::rethrow_exception(error);
        } catch (const interrupted&) {
        }
    });
}

} // namespace

PYBIND11_MODULE(deeprx_python, m)
{
    py::module::import("gnuradio.gr"); // the base classes
    py::module::import("atexit").attr("register")(
        py::cpp_function(gr::deeprx::wait_for_loads, py::call_guard<py::gil_scoped_release>()));

    const jail_limits usual;
    py::class_<jail_limits>(m, "JailLimits", R"(
What a model file that is not trusted may take in its jail.

memory: bytes, beyond what the inference libraries hold. load_s: seconds to load, and to compile for
each size of batch. batch_s: seconds for a batch, to which comes 50 times what one takes;
most_batch_s: for a batch at most. Raises ValueError where one is not above 0.
)")
        .def(py::init([](double memory, double load_s, double batch_s, double most_batch_s) {
                 const jail_limits limits{ memory, load_s, batch_s, most_batch_s };
                 gr::deeprx::check_limits(limits);
                 return limits;
             }),
             py::kw_only(),
             py::arg("memory") = usual.memory,
             py::arg("load_s") = usual.load_s,
             py::arg("batch_s") = usual.batch_s,
             py::arg("most_batch_s") = usual.most_batch_s)
        .def("__repr__", [](const jail_limits& limits) {
            return py::str(
                       "JailLimits(memory={:.0f}, load_s={:g}, batch_s={:g}, most_batch_s={:g})")
                .format(limits.memory, limits.load_s, limits.batch_s, limits.most_batch_s);
        });

    py::class_<receiver, gr::block, gr::basic_block, std::shared_ptr<receiver>>(m,
                                                                                "receiver",
                                                                                R"(
Turns received OFDM slots into soft bits (LLRs) with a receiver loaded from a model file.

Input: n_rx streams of OFDM symbols (complex vectors of the FFT length, DC in the middle), 14 a
slot, the first with the length tag 14 on stream 0. Output: float LLRs log P(b=1)/P(b=0) in
transmit bit order, one packet per slot; other tags move to the slot's first LLR.

A slot with a wrong length tag, NaN or infinite samples or LLRs is dropped, counted and reported on the
message port stats; other slots are not disturbed. The message port model takes the path of
another model file while running. Where the message port estimates is connected, it gives a
dictionary per slot: slot_index, channel [layers, n_rx, symbols, subcarriers], noise (variance)
[n_rx] and estimator, the model or "sure-lmmse".

model: path of the model file, or the name of one that ships ("deeprx-student"). slot: a SlotConfig; None: the one with
its defaults. Each of its users has an output. n_rx: 1 to 4. device: "cpu", "cuda" or "cuda:<n>". threads: CPU
threads of one inference, the same in all receivers of a process; native receives the slots of a
batch on so many, each slot on one. max_batch: most slots in one
inference (greedy: never waits for more). max_latency_ms: batches measured to take longer are not
formed; 0: no bound. len_tag_key: key of the length tag. llr_sign: 1, or -1 for
log P(b=0)/P(b=1). engine: what computes: "native", "torchscript", "openvino", or "auto": native
where the model file is of a net that it knows; else, with one thread, OpenVINO where the file
carries it for this modulation and the library was built with it; both on the CPU. trust: files that
need no jail, by what they hold now, or their SHA-256. data: what the model file held where it
was read before (deeprx_common.model_archive.SealedFile): model then only names it, and is not
opened. jail: JailLimits of files that are not trusted; None: the process's.

Raises ValueError where a parameter is out of range or another receiver in the process has another
number of threads, RuntimeError where the model file is missing, damaged, hostile or made for other
parameters, or the device is not there, and in a fork() of a process that had loaded a model.
)")
        .def(py::init([](const py::object& model,
                         const py::object& slot,
                         const py::object& n_rx,
                         const std::string& device,
                         const py::object& threads,
                         const py::object& max_batch,
                         double max_latency_ms,
                         const std::string& len_tag_key,
                         const py::object& llr_sign,
                         const std::string& engine,
                         const py::object& trust,
                         const py::object& data,
                         const std::optional<jail_limits>& jail) {
                 return receiver::make(data.is_none() ? existing_model(model) : model_path(model),
                                       to_slot_config(slot),
                                       to_whole("n_rx", n_rx),
                                       device,
                                       to_whole("threads", threads),
                                       to_whole("max_batch", max_batch),
                                       max_latency_ms,
                                       len_tag_key,
                                       to_whole("llr_sign", llr_sign),
                                       engine,
                                       trusted_paths(trust),
                                       sealed(data),
                                       jail);
             }),
             py::arg("model") = "deeprx-pusch",
             py::arg("slot") = py::none(),
             py::arg("n_rx") = 2,
             py::arg("device") = "cpu",
             py::arg("threads") = 1,
             py::arg("max_batch") = 1,
             py::arg("max_latency_ms") = 10.0,
             py::arg("len_tag_key") = "packet_len",
             py::arg("llr_sign") = 1,
             py::arg("engine") = "auto",
             py::arg("trust") = py::list(),
             py::arg("data") = py::none(),
             py::arg("jail") = py::none())
        .def(
            "set_model",
            [](receiver& self, const py::object& model, int64_t at_slot) {
                self.set_model(model_path(model), at_slot);
            },
            py::arg("model"),
            py::arg("at_slot") = -1,
            "Change to another model file while running; the answer comes on the port stats.\n\n"
            "at_slot: first slot_index of the new model; -1: the next slot.")
        .def("slots", &receiver::slots, "Slots received so far.")
        .def("dropped",
             &receiver::dropped,
             "Slots, or runs of symbols that are no slot, dropped so far.")
        .def("error",
             &receiver::error,
             "Why the receiver ended before its input did, and the flowgraph with it; \"\": it did "
             "not.");

    py::class_<python_engine>(m, "Engine", R"(
What computes inside a receiver block, without the block: to check its LLRs, to time it.

Used by one thread, the one that made it. Parameters and exceptions are the receiver's.
)")
        .def(py::init<const py::object&,
                      const py::object&,
                      const py::object&,
                      const std::string&,
                      const py::object&,
                      const py::object&,
                      const std::string&,
                      const py::object&,
                      const py::object&,
                      const std::optional<jail_limits>&>(),
             py::arg("model"),
             py::arg("slot") = py::none(),
             py::arg("n_rx") = 2,
             py::arg("device") = "cpu",
             py::arg("threads") = 1,
             py::arg("max_batch") = 1,
             py::arg("engine") = "auto",
             py::arg("trust") = py::list(),
             py::arg("data") = py::none(),
             py::arg("jail") = py::none())
        .def_property_readonly("name", &python_engine::name, "The model's name.")
        .def_property_readonly("description",
                               &python_engine::description,
                               "What computes, at which precision, with which instructions.")
        .def("infer",
             &python_engine::infer,
             py::arg("y"),
             py::arg("p"),
             "LLRs float32 [B, n_layers, n_symbols, n_sc, >= bits] of received grids y float32 [B, "
             "n_rx, n_symbols, n_sc, 2] and their pilots p float32 [B, n_layers, n_symbols, n_sc, "
             "2].\n\n"
             "Raises ValueError where a shape is another, RuntimeError where the model fails or "
             "gives LLRs that are not all finite: a receiver drops such slots. Where its jail was "
             "lost, the next call starts a fresh one, three times in all and once a second.")
        .def("time",
             &python_engine::time,
             py::arg("calls"),
             py::arg("batch") = 1,
             "Seconds of so many calls on a batch of what infer() saw last (noise before that): "
             "float64 [calls, 2], wall time and CPU time, worker threads included.")
        .def("time_stages",
             &python_engine::time_stages,
             py::arg("calls"),
             "What the stages of a slot take, over so many calls on one of what infer() saw last: "
             "dicts of name (\"round: sum\" is within \"round\"), precision, and of a slot calls, "
             "flop, bytes and seconds (wall time, without that of the stages in it). FLOP, and "
             "bytes "
             "that come in and go out, are counted from shapes. Empty: the engine is not native.");

    m.def(
        "check_model",
        [](const py::object& data,
           const py::object& slot,
           int n_rx,
           const std::string& device,
           const py::object& trust) {
            gr::deeprx::check_model(sealed(data).value_or(-1),
                                    to_slot_config(slot),
                                    n_rx,
                                    device,
                                    trusted_paths(trust));
        },
        py::arg("data"),
        py::kw_only(),
        py::arg("slot"),
        py::arg("n_rx"),
        py::arg("device"),
        py::arg("trust") = py::list(),
        "Check a model file (deeprx_common.model_archive.SealedFile) as the receiver does before "
        "it runs anything of it: in a jail, "
        "unless it ships or trust names its file.\n\n"
        "Raises ValueError where a parameter is out of range, RuntimeError with one line where the "
        "file is damaged, hostile or made for other parameters.");
    bind_failures(m);
    bind_interruption();
    m.def(
        "set_jail_limits",
        [](double memory, double load_s, double batch_s, double most_batch_s) {
            gr::deeprx::set_jail_limits({ memory, load_s, batch_s, most_batch_s });
        },
        py::kw_only(),
        py::arg("memory") = usual.memory,
        py::arg("load_s") = usual.load_s,
        py::arg("batch_s") = usual.batch_s,
        py::arg("most_batch_s") = usual.most_batch_s,
        "JailLimits of this process, from the next jail on, where a receiver has none of its own.");
    bind_slots(m);
    bind_tdl(m);
    bind_transport_blocks(m);
    bind_tb_blocks(m);
    bind_classical(m);
    m.def("engines",
          &gr::deeprx::engines,
          "What can compute a receiver, with versions: [\"TorchScript 2.13.0\", ...].");
    m.def("instructions",
          &gr::deeprx::instructions,
          py::arg("precision"),
          "This processor's instructions for arithmetic in float32, bfloat16 or int8; \"\": it has "
          "none, and models of this precision run slowly on it.");
    m.def("core_clock_hz",
          &core_clock_hz,
          "Clock of the core this thread runs on now, in Hz; None where it cannot be told.");
}
