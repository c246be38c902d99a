/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "bindings.h"

#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <gnuradio/deeprx/tdl_fader.h>

#include <algorithm>

namespace py = pybind11;
using gr::deeprx::tdl_fader;
using gr::deeprx::tdl_fading;

namespace {

using complex_array = py::array_t<std::complex<float>, py::array::c_style | py::array::forcecast>;

complex_array process(tdl_fading& fading, const complex_array& samples)
{
    const auto n = samples.size();
    complex_array faded({ static_cast<py::ssize_t>(fading.n_rx()), n });
    std::vector<std::complex<float>*> antennas;
    for (int antenna = 0; antenna < fading.n_rx(); antenna++)
        antennas.push_back(faded.mutable_data(antenna));
    fading.process(samples.data(), static_cast<int>(n), antennas.data());
    return faded;
}

complex_array taps(const tdl_fading& fading, const std::vector<double>& times)
{
    complex_array gains({ static_cast<int>(times.size()), fading.n_rx(), fading.n_taps() });
    auto* out = gains.mutable_data();
    for (const double time : times) {
        const auto at_time = fading.taps(time);
        out = std::copy(at_time.begin(), at_time.end(), out);
    }
    return gains;
}

} // namespace

void bind_tdl(py::module& m)
{
    py::class_<tdl_fading, std::shared_ptr<tdl_fading>>(
        m, "tdl_fading", "The C++ side of TdlFading, which says what this is.")
        .def(py::init<const std::vector<std::vector<float>>&,
                      const std::vector<float>&,
                      bool,
                      int,
                      double,
                      uint64_t,
                      uint64_t,
                      int>(),
             py::arg("filters"),
             py::arg("amplitudes"),
             py::arg("line_of_sight"),
             py::arg("n_rx"),
             py::arg("doppler"),
             py::arg("seed"),
             py::arg("link"),
             py::arg("n_sinusoids"))
        .def_property_readonly("n_rx", &tdl_fading::n_rx, "Antennas.")
        .def_property_readonly(
            "length", &tdl_fading::length, "Taps of the sample-spaced impulse response.")
        .def("redraw",
             &tdl_fading::redraw,
             py::arg("draw"),
             "Take new, independent fading; the signal's last samples still ring through.")
        .def("taps",
             taps,
             py::arg("times"),
             "Gains of the profile's taps at sample times since the draw, complex64 [time, n_rx, "
             "n_taps].")
        .def("process",
             process,
             py::arg("samples"),
             "Fade the next samples: complex64 [n] to complex64 [n_rx, n], the same however they "
             "are cut.");

    py::class_<tdl_fader, gr::sync_block, gr::block, gr::basic_block, std::shared_ptr<tdl_fader>>(
        m, "tdl_fader", "TdlFading as a block: one signal in, one faded copy per antenna out.")
        .def(py::init(&tdl_fader::make),
             py::arg("fading"),
             py::arg("burst_slots"),
             py::arg("tags"),
             "fading: of this block alone. burst_slots: draw anew where a slot_index tag passes a "
             "multiple of it; 0: never. tags: pass them on to every output.");
}
