/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "bindings.h"

#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <gnuradio/deeprx/slot_cutter.h>
#include <gnuradio/deeprx/slot_gate.h>
#include <gnuradio/deeprx/symbol_ifft.h>
#include <gnuradio/deeprx/unitary_fft.h>

#include <gnuradio/hier_block2.h>

#include <stdexcept>
#include <string>

namespace py = pybind11;
using gr::deeprx::slot_cutter;
using gr::deeprx::slot_gate;
using gr::deeprx::symbol_ifft;
using gr::deeprx::unitary_fft;

namespace {

using complex_array = py::array_t<std::complex<float>, py::array::c_style | py::array::forcecast>;

complex_array transformed(unitary_fft& fft, const complex_array& symbols)
{
    if (symbols.ndim() == 0 || symbols.shape(symbols.ndim() - 1) != fft.size())
        throw std::invalid_argument("the last axis of symbols must have " +
                                    std::to_string(fft.size()) + " samples");
    complex_array result(
        std::vector<py::ssize_t>(symbols.shape(), symbols.shape() + symbols.ndim()));
    for (py::ssize_t at = 0; at < symbols.size(); at += fft.size())
        fft(symbols.data() + at, result.mutable_data() + at);
    return result;
}

/*
 * A hierarchical block's graph must not own that block, as it does after GNU Radio's own
 * msg_connect(): neither the block nor its buffers would ever go.
 */
struct hierarchical_port {
    hierarchical_port(const py::object& block, const py::object& inner_block)
        : outer(as<gr::hier_block2>(block)), unowned(gr::basic_block_sptr(), outer.get()),
          inner(as<gr::basic_block>(inner_block))
    {
    }

    template <typename T>
    static std::shared_ptr<T> as(const py::object& block)
    {
        return block.attr("to_basic_block")().cast<std::shared_ptr<T>>();
    }

    const gr::hier_block2_sptr outer;
    const gr::basic_block_sptr unowned, inner;
};

void message_port_in(const py::object& block, const std::string& port, const py::object& inner)
{
    const hierarchical_port of(block, inner);
    of.outer->message_port_register_hier_in(pmt::mp(port));
    of.outer->msg_connect(of.unowned, port, of.inner, port);
}

void message_port_out(const py::object& block, const std::string& port, const py::object& inner)
{
    const hierarchical_port of(block, inner);
    of.outer->message_port_register_hier_out(pmt::mp(port));
    of.outer->msg_connect(of.inner, port, of.unowned, port);
}

} // namespace

void bind_slots(py::module& m)
{
    py::class_<unitary_fft>(m, "unitary_fft", R"(
Unitary FFT of OFDM symbols, DC in the middle of the spectrum, to the last digit the same from run to
run. Called with symbols, complex64 [..., size], it returns their spectra, complex64 [..., size].

size: even. inverse: from spectra to symbols. Raises ValueError where the size is not even, and for
symbols of another size.
)")
        .def(py::init<int, bool>(), py::arg("size"), py::arg("inverse") = false)
        .def("__call__", transformed, py::arg("symbols"));

    py::class_<symbol_ifft,
               gr::sync_block,
               gr::block,
               gr::basic_block,
               std::shared_ptr<symbol_ifft>>(
        m, "symbol_ifft", "Samples of OFDM symbols from their spectra: what slot_transmitter does.")
        .def(py::init(&symbol_ifft::make), py::arg("fft_size"));

    py::class_<slot_cutter, gr::block, gr::basic_block, std::shared_ptr<slot_cutter>>(
        m, "slot_cutter", "Spectra of the symbols of every slot: what aligned_front_end does.")
        .def(py::init(&slot_cutter::make),
             py::arg("fft_size"),
             py::arg("cp_pattern"),
             py::arg("n_rx"),
             py::arg("offset_samples"),
             py::arg("first_slot"),
             py::arg("turns") = std::vector<std::complex<float>>())
        .def("dropped_samples",
             &slot_cutter::dropped_samples,
             "Samples of slots that were cut short, so far.");

    py::class_<slot_gate, gr::block, gr::basic_block, std::shared_ptr<slot_gate>>(
        m, "slot_gate", "Passes packets of n_bits and numbers them: ahead of a slot_transmitter.")
        .def(py::init(&slot_gate::make), py::arg("n_bits"), py::arg("lengths"))
        .def("dropped_packets", &slot_gate::dropped_packets, "Packets of a wrong length, so far.")
        .def("keep_buffers",
             &slot_gate::keep_buffers,
             py::arg("block"),
             "Let a block's output buffers have their full size whenever a flowgraph starts.");

    // the block's own Python object and this call's argument hold it, too
    m.def(
        "in_flowgraph",
        [](const gr::basic_block_sptr& block) { return block.use_count() > 2; },
        py::arg("block"),
        "Whether a flowgraph, or another part of one, holds a block.");

    m.def("message_port_in",
          message_port_in,
          py::arg("block"),
          py::arg("port"),
          py::arg("inner"),
          "Let a hierarchical block have an input of messages, which goes to inner's.");
    m.def("message_port_out",
          message_port_out,
          py::arg("block"),
          py::arg("port"),
          py::arg("inner"),
          "Let a hierarchical block have an output of messages, which comes from inner's.");
}
