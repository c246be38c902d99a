/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "bindings.h"
#include "kernels.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "gold_sequence.h"
#include "harq_buffers.h"
#include "mcs.h"
#include "transport_block.h"

#include <chrono>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

namespace py = pybind11;
using namespace gr::deeprx;

namespace {

using bit_array = py::array_t<uint8_t>;
using llr_array = py::array_t<float, py::array::c_style | py::array::forcecast>;

bit_array encode(const transport_block& self, const std::string& block, int rv)
{
    if (block.size() * 8 != static_cast<size_t>(self.size()))
        throw std::invalid_argument("expected a block of " + std::to_string(self.size() / 8) +
                                    " bytes, got " + std::to_string(block.size()));
    bit_array coded(self.coded_bits());
    self.encode(reinterpret_cast<const uint8_t*>(block.data()), rv, coded.mutable_data());
    return coded;
}

//! With its working memory and soft buffers.
class tb_decoder
{
public:
    tb_decoder(int buffers, const std::optional<std::string>& instructions)
        : d_kernel(kernel_of(ldpc_kernels(), ldpc_decoder::best(), instructions)),
          d_decoder(d_kernel), d_buffers(buffers)
    {
    }

    py::tuple decode(const transport_block& block,
                     const llr_array& llr,
                     int rv,
                     int rnti,
                     int process,
                     bool new_data)
    {
        if (new_data)
            flush(rnti, process);
        if (llr.ndim() != 1)
            throw std::invalid_argument("expected LLRs in one dimension, got " +
                                        std::to_string(llr.ndim()));
        if (llr.size() != block.coded_bits())
            throw std::invalid_argument("expected " + std::to_string(block.coded_bits()) +
                                        " LLRs, got " + std::to_string(llr.size()));
        std::string bytes(block.size() / 8, 0);
        const auto decode = [&] {
            const py::gil_scoped_release release; // others may run meanwhile
            const std::lock_guard lock(d_mutex);  // and decode with this one next
            return block.decode(llr.data(),
                                rv,
                                { rnti, process },
                                new_data,
                                d_buffers,
                                d_decoder,
                                reinterpret_cast<uint8_t*>(bytes.data()));
        };
        const auto result = decode();
        return py::make_tuple(py::bytes(bytes), result.crc_ok, result.iterations);
    }

    void flush(int rnti, int process)
    {
        const std::lock_guard lock(d_mutex);
        d_buffers.flush({ rnti, process });
    }

    //! Mean seconds of a code block of noise.
    double time(const ldpc_code& code, int coded_bits, int iterations, int calls)
    {
        for (const auto& [name, value] : { std::pair("coded_bits", coded_bits),
                                           std::pair("iterations", iterations),
                                           std::pair("calls", calls) })
            if (value < 1)
                throw std::invalid_argument(std::string(name) + " must be at least 1, got " +
                                            std::to_string(value));
        std::vector<int8_t> llr(code.n());
        const auto sent = llr.begin() + 2 * code.lifting_size();
        for (int i = 0; i < std::min<int>(coded_bits, llr.end() - sent); i++)
            sent[i] = static_cast<int8_t>((i * 2654435761u >> 24) % 64) - 24;
        std::vector<uint8_t> bits(code.k());
        const std::lock_guard lock(d_mutex);
        const auto start = std::chrono::steady_clock::now();
        for (int call = 0; call < calls; call++)
            d_decoder.decode(
                code, llr.data(), 0, iterations, [] { return false; }, bits.data());
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
               calls;
    }

    std::string instructions() const { return d_kernel.instructions; }
    uint64_t dropped() const { return d_buffers.dropped(); }

private:
    const ldpc_kernel& d_kernel;
    ldpc_decoder d_decoder;
    harq_buffers d_buffers;
    std::mutex d_mutex; // of both
};

} // namespace

void bind_transport_blocks(py::module& m)
{
    m.def(
        "mcs",
        [](int table, int index) {
            const mcs found = mcs_of(table, index);
            return py::make_tuple(found.bits_per_symbol, found.code_rate);
        },
        py::arg("table"),
        py::arg("index"),
        "Bits per symbol and target code rate of an MCS: TS 38.214 tables 5.1.3.1-1 to -3.\n\n"
        "table: 1 (64QAM), 2 (256QAM) or 3 (64QAM, low spectral efficiency). Raises ValueError for "
        "another, and for a reserved index.");
    m.def(
        "transport_block_size",
        [](int n_prb, int data_re, int bits_per_symbol, double code_rate, int layers) {
            return transport_block_size(n_prb, data_re, { bits_per_symbol, code_rate }, layers);
        },
        py::arg("n_prb"),
        py::arg("data_re"),
        py::arg("bits_per_symbol"),
        py::arg("code_rate"),
        py::arg("layers") = 1,
        "Bits of a transport block (TS 38.214 clause 5.1.3.2); data_re: the allocation's REs in "
        "one "
        "PRB, without DMRS. Raises ValueError where a number is out of range.");
    m.def(
        "ldpc_instructions",
        [] {
            std::vector<std::string> names;
            for (const ldpc_kernel* kernel : ldpc_kernels())
                names.push_back(kernel->instructions);
            return names;
        },
        "What the LDPC decoder may compute with on this processor, best first.");
    m.def(
        "data_scrambling",
        [](int rnti, int n_id, int length) {
            const auto c = data_scrambling(rnti, n_id, length);
            return bit_array(py::ssize_t(c.size()), c.data());
        },
        py::arg("rnti"),
        py::arg("n_id"),
        py::arg("length"),
        "Bits that are added to a PUSCH's coded bits, uint8 [length] (TS 38.211 clause "
        "6.3.1.1).\n\n"
        "rnti: 0 to 65535. n_id: 0 to 1023. Raises ValueError for others.");

    py::class_<transport_block>(m, "TransportBlock", R"(
A transport block and its coded bits (TS 38.212 clauses 5.1 to 5.4 and 6.2): CRC, code blocks, LDPC,
rate matching, interleaving.

size: bits, without CRC, as transport_block_size() gives them. coded_bits: that the slot has for it.
bits_per_symbol: 2, 4, 6 or 8. code_rate: the target of its first transmission. limited_buffer: bits
of the largest block for which buffers were made (TBS_LBRM of clause 5.4.2.1), so no less than size;
0: not limited.

Raises ValueError if there is no such block, or it does not fit.
)")
        .def(py::init<int, int, int, double, int, int>(),
             py::arg("size"),
             py::arg("coded_bits"),
             py::arg("bits_per_symbol"),
             py::arg("code_rate"),
             py::arg("layers") = 1,
             py::arg("limited_buffer") = 0)
        .def_property_readonly("size", &transport_block::size, "Bits, without CRC.")
        .def_property_readonly("coded_bits", &transport_block::coded_bits)
        .def_property_readonly("code_blocks", &transport_block::code_blocks)
        .def_property_readonly("base_graph",
                               [](const transport_block& self) { return self.code().base_graph(); })
        .def_property_readonly(
            "lifting_size", [](const transport_block& self) { return self.code().lifting_size(); })
        .def("encode",
             &encode,
             py::arg("block"),
             py::arg("rv") = 0,
             "Coded bits, uint8 [coded_bits], before scrambling, of a block's bytes.\n\n"
             "Raises ValueError for another length, or an rv that is not 0 to 3.");

    py::class_<tb_decoder>(m, "TransportBlockDecoder", R"(
Decodes transport blocks, and keeps what was received of each HARQ process until its next new data.

buffers: processes at most, of all users; where all are in use, the one longest not heard of is
dropped. instructions: "AVX-512", "AVX2", "NEON" or "no vectors"; None: the best there are here.

Raises ValueError where a parameter is out of range.
)")
        .def(py::init<int, const std::optional<std::string>&>(),
             py::arg("buffers") = 256,
             py::arg("instructions") = py::none())
        .def(
            "decode",
            &tb_decoder::decode,
            py::arg("block"),
            py::arg("llr"),
            py::arg("rv") = 0,
            py::arg("rnti") = 1,
            py::arg("process") = 0,
            py::arg("new_data") = true,
            "Bytes, whether their CRC is right, and mean iterations of a code block.\n\n"
            "block: the TransportBlock. llr: float [coded_bits], log P(1)/P(0), descrambled; added "
            "to those of earlier transmissions, unless it is new data. Raises ValueError for "
            "another number of LLRs, NaN, an rv that is not 0 to 3, a process of another block or "
            "of none; new data that is refused leaves its process with nothing.")
        .def("flush",
             &tb_decoder::flush,
             py::arg("rnti"),
             py::arg("process"),
             "New data of a process began that is not decoded: what was received before is gone.")
        .def_property_readonly("instructions", &tb_decoder::instructions)
        .def_property_readonly("dropped", &tb_decoder::dropped, "Soft buffers dropped so far.")
        .def(
            "time",
            [](tb_decoder& self,
               int base_graph,
               int lifting_size,
               int coded_bits,
               int iterations,
               int calls) {
                const ldpc_code code(base_graph, lifting_size);
                py::gil_scoped_release release;
                return self.time(code, coded_bits, iterations, calls);
            },
            py::arg("base_graph") = 1,
            py::arg("lifting_size") = 384,
            py::arg("coded_bits") = 16896,
            py::arg("iterations") = 6,
            py::arg("calls") = 100,
            "Mean seconds of one code block, without early stop. Raises ValueError where a number "
            "is "
            "out of range.");
}
