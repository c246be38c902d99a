/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "bindings.h"

#include <pybind11/stl.h>

#include <gnuradio/deeprx/tb_decoder.h>
#include <gnuradio/deeprx/tb_encoder.h>
#include <gnuradio/deeprx/tb_source.h>

namespace py = pybind11;
using namespace gr::deeprx;

//! What python/deeprx/blocks/transport.py makes of a SlotConfig, where it is documented.
void bind_tb_blocks(py::module& m)
{
    py::class_<block_format>(m, "BlockFormat", "The transport blocks of one user's slots.")
        .def(py::init([](int size,
                         int coded_bits,
                         int bits_per_symbol,
                         double code_rate,
                         int rnti,
                         int n_id,
                         int limited_buffer) {
                 return block_format{ size, coded_bits, bits_per_symbol, code_rate,
                                      rnti, n_id,       limited_buffer };
             }),
             py::arg("size"),
             py::arg("coded_bits"),
             py::arg("bits_per_symbol"),
             py::arg("code_rate"),
             py::arg("rnti") = 1,
             py::arg("n_id") = 1,
             py::arg("limited_buffer") = 0);

    py::class_<tb_source, gr::sync_block, gr::block, gr::basic_block, std::shared_ptr<tb_source>>(
        m, "tb_source")
        .def(py::init(&tb_source::make),
             py::arg("size"),
             py::arg("rnti"),
             py::arg("seeded"),
             py::arg("seed"),
             py::arg("port"),
             py::arg("first_slot"),
             py::arg("n_slots"))
        .def("refused", &tb_source::refused, "Messages that were no blocks, so far.");

    py::class_<tb_encoder, gr::block, gr::basic_block, std::shared_ptr<tb_encoder>>(m, "tb_encoder")
        .def(py::init(&tb_encoder::make), py::arg("format"))
        .def("dropped",
             &tb_encoder::dropped,
             "Packets, or runs of items without a tag, dropped so far.");

    py::class_<tb_decoder, gr::block, gr::basic_block, std::shared_ptr<tb_decoder>>(m, "tb_decoder")
        .def(py::init(&tb_decoder::make),
             py::arg("format"),
             py::arg("llr_sign") = 1,
             py::arg("buffers") = 256,
             py::arg("len_tag_key") = "packet_len")
        .def("blocks",
             &tb_decoder::blocks,
             "Blocks decoded so far, whether or not their CRC was right.")
        .def("block_errors", &tb_decoder::block_errors, "Of these, with a wrong CRC.")
        .def("dropped",
             &tb_decoder::dropped,
             "Packets that could not be decoded, and granted slots that never came, so far.")
        .def("forgotten",
             &tb_decoder::forgotten,
             "HARQ processes forgotten so far, because all buffers were in use.")
        .def("without_grant",
             &tb_decoder::without_grant,
             "Slots so far that were taken for new data of process 0, as their grant came late or "
             "never.");
}
