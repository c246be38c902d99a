/* SPDX-License-Identifier: GPL-3.0-or-later */

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core_clock.h"

#include <gnuradio/deeprx/check_model.h>
#include <gnuradio/deeprx/receiver.h>

#include <optional>

namespace py = pybind11;
using gr::deeprx::receiver;

PYBIND11_MODULE(deeprx_python, m)
{
    py::module::import("gnuradio.gr"); // the base classes

    py::class_<receiver, gr::block, gr::basic_block, std::shared_ptr<receiver>>(m,
                                                                                "receiver",
                                                                                R"(
Turns received OFDM slots into soft bits (LLRs) with a receiver loaded from a model file.

Input: n_rx streams of OFDM symbols (complex vectors of the FFT length, DC in the middle), 14 a
slot, the first with the length tag 14 on stream 0. Output: float LLRs log P(b=1)/P(b=0) in
transmit bit order, one packet per slot; other tags move to the slot's first LLR.

A slot with a wrong length tag, NaN or infinite samples is dropped, counted and reported on the
message port stats; other slots are not disturbed. The message port model takes the path of
another model file while running.

model: path of the model file. n_prb: 6 to 273. n_rx: 1 to 4. modulation: QPSK, 16QAM, 64QAM or
256QAM. dmrs: the one or two symbols that carry pilots. cell_id: 0 to 65535. slot_number: 0 to 9;
None or -1 counts slot_index through the frame. device: "cpu", "cuda" or "cuda:<n>". threads: CPU
threads of one inference, the same in all receivers of a process. max_batch: most slots in one
inference (greedy: never waits for more). max_latency_ms: batches measured to take longer are not
formed; 0: no bound. len_tag_key: key of the length tag. llr_sign: 1, or -1 for
log P(b=0)/P(b=1).

Raises ValueError where a parameter is out of range or another receiver in the process has another
number of threads, RuntimeError where the model file is missing, damaged, hostile or made for other
parameters, or the device is not there.
)")
        .def(py::init([](const std::string& model,
                         int n_prb,
                         int n_rx,
                         const std::string& modulation,
                         const std::vector<int>& dmrs,
                         int cell_id,
                         std::optional<int> slot_number,
                         const std::string& device,
                         int threads,
                         int max_batch,
                         double max_latency_ms,
                         const std::string& len_tag_key,
                         int llr_sign) {
                 return receiver::make(model,
                                       n_prb,
                                       n_rx,
                                       modulation,
                                       dmrs,
                                       cell_id,
                                       slot_number.value_or(-1),
                                       device,
                                       threads,
                                       max_batch,
                                       max_latency_ms,
                                       len_tag_key,
                                       llr_sign);
             }),
             py::arg("model") = "models/deeprx-student.pt",
             py::arg("n_prb") = 26,
             py::arg("n_rx") = 2,
             py::arg("modulation") = "16QAM",
             py::arg("dmrs") = std::vector<int>{ 2, 11 },
             py::arg("cell_id") = 1,
             py::arg("slot_number") = 0,
             py::arg("device") = "cpu",
             py::arg("threads") = 1,
             py::arg("max_batch") = 1,
             py::arg("max_latency_ms") = 10.0,
             py::arg("len_tag_key") = "packet_len",
             py::arg("llr_sign") = 1)
        .def("set_model",
             &receiver::set_model,
             py::arg("model"),
             py::arg("at_slot") = -1,
             "Change to another model file while running; the answer comes on the port stats.\n\n"
             "at_slot: first slot_index of the new model; -1: the next slot.")
        .def("slots", &receiver::slots, "Slots received so far.")
        .def("dropped",
             &receiver::dropped,
             "Slots, or runs of symbols that are no slot, dropped so far.");

    m.def(
        "check_model",
        [](const py::bytes& data,
           int n_prb,
           int n_rx,
           const std::string& modulation,
           const std::vector<int>& dmrs,
           const std::string& device) {
            gr::deeprx::check_model(data, n_prb, n_rx, modulation, dmrs, device);
        },
        py::arg("data"),
        py::kw_only(),
        py::arg("n_prb"),
        py::arg("n_rx"),
        py::arg("modulation"),
        py::arg("dmrs"),
        py::arg("device"),
        "Check a model file's bytes as the receiver does before it runs anything of it.\n\n"
        "Raises ValueError where a parameter is out of range, RuntimeError with one line where the "
        "file is damaged, hostile or made for other parameters.");
    m.def("core_clock_hz",
          &core_clock_hz,
          "Clock of the core this thread runs on now, in Hz; None where it cannot be told.");
}
