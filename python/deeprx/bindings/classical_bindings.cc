/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "bindings.h"
#include "kernels.h"

#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "classical_receiver.h"
#include "slot_geometry.h"

#include <chrono>
#include <complex>
#include <optional>
#include <stdexcept>
#include <string>

namespace py = pybind11;
using namespace gr::deeprx;

namespace {

using complex_array = py::array_t<std::complex<float>, py::array::c_style | py::array::forcecast>;
using float_array = py::array_t<float, py::array::c_style | py::array::forcecast>;
using shape = std::vector<py::ssize_t>;

std::string text(const shape& s)
{
    std::string list;
    for (const py::ssize_t n : s)
        list += (list.empty() ? "" : ", ") + std::to_string(n);
    return "[" + list + "]";
}

void expect_shape(const char* name, const float_array& a, const shape& expected)
{
    const shape found(a.shape(), a.shape() + a.ndim());
    if (found != expected)
        throw std::invalid_argument(std::string(name) + " must be float32 " + text(expected) +
                                    ", got " + text(found));
}

class receiver
{
public:
    receiver(const py::object& slot,
             int n_rx,
             const std::string& kind,
             const std::optional<std::string>& instructions)
        : d_kernel(kernel_of(equaliser_kernels(), classical_receiver::best(), instructions)),
          d_slot(slot), d_layout(layout_of(slot_geometry(to_slot_config(slot)))), d_n_rx(n_rx),
          d_receiver(d_layout, n_rx, classical_kind(kind), d_kernel),
          d_grid{ n_rx, d_layout.n_symbols, d_layout.n_subcarriers, 2 }, d_pilots{
              d_layout.n_layers(), d_layout.n_symbols, d_layout.n_subcarriers, 2
          }
    {
    }

    const char* instructions() const { return d_kernel.instructions; }

    float_array infer(const float_array& y, const float_array& p)
    {
        expect_shape("y", y, d_grid);
        expect_shape("p", p, d_pilots);
        return run(y.data(), p.data());
    }

    py::list receive(const complex_array& grid, uint64_t slot_index)
    {
        const shape found(grid.shape(), grid.shape() + grid.ndim());
        const shape expected(d_grid.begin(), d_grid.end() - 1);
        if (found != expected)
            throw std::invalid_argument("grid must be complex64 " + text(expected) + ", got " +
                                        text(found));
        const auto pilots = d_slot.attr("pilots")(slot_index).cast<complex_array>();
        const py::object llr = run(reinterpret_cast<const float*>(grid.data()),
                                   reinterpret_cast<const float*>(pilots.data()));
        const py::object data = d_slot.attr("data_mask");
        py::list layers;
        for (int layer = 0; layer < d_layout.n_layers(); layer++)
            layers.append(
                llr[py::int_(layer)][data]
                   [py::make_tuple(py::ellipsis(), py::slice(0, d_layout.layers[layer].bits, 1))]
                       .attr("reshape")(-1));
        return layers;
    }

    py::tuple estimate() const
    {
        complex_array channel(shape{ d_pilots[0], d_n_rx, d_pilots[1], d_pilots[2] });
        float_array noise(shape{ d_n_rx });
        d_receiver.copy_channel(reinterpret_cast<float*>(channel.mutable_data()));
        d_receiver.copy_noise(noise.mutable_data());
        return py::make_tuple(channel, noise);
    }

    //! Mean seconds of a slot of noise.
    double time(int calls)
    {
        std::vector<float> grid(d_grid[0] * d_grid[1] * d_grid[2] * 2);
        uint32_t random = 1;
        for (float& y : grid)
            y = static_cast<float>((random = random * 1664525 + 1013904223) >> 8) / (1 << 23) - 1;
        const auto pilots = d_slot.attr("pilots")(0).cast<complex_array>();
        const auto* p = reinterpret_cast<const float*>(pilots.data());
        std::vector<float> llr(d_pilots[0] * d_pilots[1] * d_pilots[2] * d_receiver.llr_stride());
        py::gil_scoped_release release;
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < calls; i++)
            d_receiver.receive(grid.data(), p, llr.data());
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
               calls;
    }

private:
    float_array run(const float* grid, const float* pilots)
    {
        float_array llr(shape{ d_pilots[0], d_pilots[1], d_pilots[2], d_receiver.llr_stride() });
        float* to = llr.mutable_data();
        py::gil_scoped_release release;
        d_receiver.receive(grid, pilots, to);
        return llr;
    }

    const equaliser_kernel& d_kernel;
    const py::object d_slot;
    const pilot_layout d_layout;
    const int d_n_rx;
    classical_receiver d_receiver;
    const shape d_grid, d_pilots;
};

} // namespace

void bind_classical(py::module& m)
{
    py::class_<receiver>(m, "ClassicalReceiver", R"(
A receiver without a net, in C++, for any slot.

slot: a SlotConfig. n_rx: antennas, 1 to 4. kind: "ls-lmmse", "sure-lmmse" or "gnb" (what an open
gNB does by default). instructions: "AVX-512", "AVX2", or what every processor has, "SSE2" or "NEON";
None: the best there are here.

Raises ValueError where it cannot receive such slots.
)")
        .def(py::init<const py::object&,
                      int,
                      const std::string&,
                      const std::optional<std::string>&>(),
             py::arg("slot"),
             py::arg("n_rx"),
             py::arg("kind"),
             py::arg("instructions") = py::none())
        .def("infer",
             &receiver::infer,
             py::arg("y"),
             py::arg("p"),
             "LLRs, float32 [n_layers, n_symbols, n_sc, bits], log P(1)/P(0), 0 where no data "
             "is.\n\n"
             "y: received grid, float32 [n_rx, n_symbols, n_sc, 2]. p: pilots as sent, float32 "
             "[n_layers, n_symbols, n_sc, 2]. bits: the most of a layer. Raises ValueError for "
             "other shapes.")
        .def(
            "receive",
            &receiver::receive,
            py::arg("grid"),
            py::arg("slot_index") = 0,
            "LLRs of each layer's data in transmit order, a list of float32 [n_data_re * bits].\n\n"
            "grid: received, complex64 [n_rx, n_symbols, n_sc]. Raises ValueError for another "
            "shape.")
        .def("estimate",
             &receiver::estimate,
             "Of the last slot: channel, complex64 [n_layers, n_rx, n_symbols, n_sc], and power of "
             "noise and interference in a data RE of each antenna, float32 [n_rx].")
        .def("time", &receiver::time, py::arg("calls") = 100, "Mean seconds of a slot on one core.")
        .def_property_readonly("instructions", &receiver::instructions);
}
