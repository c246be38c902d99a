/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "built_in_model.h"

#include <torch/script.h>

#include <sstream>
#include <vector>

namespace gr::deeprx {

namespace {

//! An OpenVINO IR, layer by layer; each has one output.
class ir_text
{
public:
    //! \param shape as the IR spells it, "?,14,?,2"; \param inputs layers
    int layer(const std::string& type,
              const std::string& data,
              const std::string& shape,
              const std::vector<int>& inputs = {},
              const std::string& name = "")
    {
        const int id = static_cast<int>(d_shapes.size());
        d_layers << "<layer id=\"" << id << "\" name=\"" << (name.empty() ? type : name)
                 << (name.empty() ? std::to_string(id) : "") << "\" type=\"" << type
                 << "\" version=\"opset1\">";
        if (!data.empty())
            d_layers << "<data " << data << "/>";
        if (!inputs.empty())
            d_layers << "<input>";
        int port = 0;
        for (const int input : inputs) {
            d_edges << "<edge from-layer=\"" << input << "\" from-port=\"" << d_ports[input]
                    << "\" to-layer=\"" << id << "\" to-port=\"" << port << "\"/>";
            write_port(port++, d_shapes[input], "");
        }
        if (!inputs.empty())
            d_layers << "</input>";
        if (type != "Result") {
            d_layers << "<output>";
            write_port(port, shape, name);
            d_layers << "</output>";
        }
        d_layers << "</layer>";
        d_shapes.push_back(shape);
        d_ports.push_back(port);
        return id;
    }

    std::string text() const
    {
        return "<?xml version=\"1.0\"?><net name=\"built-in\" version=\"11\"><layers>" +
               d_layers.str() + "</layers><edges>" + d_edges.str() + "</edges></net>";
    }

private:
    void write_port(int id, const std::string& shape, const std::string& name)
    {
        const bool order = shape == "4";
        d_layers << "<port id=\"" << id << "\" precision=\"" << (order ? "I64" : "FP32") << '"';
        if (!name.empty())
            d_layers << " names=\"" << name << '"';
        d_layers << '>';
        std::istringstream dimensions(shape);
        for (std::string one; std::getline(dimensions, one, ',');)
            d_layers << "<dim>" << (one == "?" ? "-1" : one) << "</dim>";
        d_layers << "</port>";
    }

    std::ostringstream d_layers, d_edges;
    std::vector<std::string> d_shapes;
    std::vector<int> d_ports; // of the outputs
};

std::string parameter(const std::string& shape)
{
    return "shape=\"" + shape + "\" element_type=\"f32\"";
}

} // namespace

std::string built_in_model(const slot_geometry& slot, int n_rx)
{
    const int bits = slot.bits_per_symbol();
    const std::string n = std::to_string(bits), symbols = std::to_string(slot.symbols());
    const at::Tensor weights = at::full({ bits, 2, 3, 3 }, 0.1f);
    const int64_t orders[2][4]{ { 0, 3, 1, 2 }, { 0, 2, 3, 1 } };
    std::string data(reinterpret_cast<const char*>(orders), sizeof(orders));
    data.append(static_cast<const char*>(weights.data_ptr()), weights.nbytes());

    ir_text ir;
    const std::string y = "?," + std::to_string(n_rx) + "," + symbols + ",?,2";
    const std::string p = "?," + symbols + ",?,2";
    ir.layer("Parameter", parameter(y), y, {}, "y");
    const int pilots = ir.layer("Parameter", parameter(p), p, {}, "p");
    const std::string order = "element_type=\"i64\" shape=\"4\" size=\"32\" offset=";
    const int first = ir.layer("Const", order + "\"0\"", "4");
    const int planes = ir.layer("Transpose", "", "?,2," + symbols + ",?", { pilots, first });
    const int kernel = ir.layer("Const",
                                "element_type=\"f32\" shape=\"" + n + ",2,3,3\" size=\"" +
                                    std::to_string(weights.nbytes()) + "\" offset=\"64\"",
                                n + ",2,3,3");
    const int sum = ir.layer("Convolution",
                             "strides=\"1,1\" dilations=\"1,1\" pads_begin=\"1,1\" "
                             "pads_end=\"1,1\" auto_pad=\"explicit\"",
                             "?," + n + "," + symbols + ",?",
                             { planes, kernel });
    const int last = ir.layer("Const", order + "\"32\"", "4");
    ir.layer(
        "Result", "", "", { ir.layer("Transpose", "", "?," + symbols + ",?," + n, { sum, last }) });

    std::ostringstream json;
    json << R"({"contract": "deeprx.model/2", "name": "built-in", "requires": [], )"
         << R"("quantized_engine": null, "layers": [1], "n_rx": [)" << n_rx << R"(], "n_prb": [)"
         << slot.n_prb() << ", " << slot.n_prb() << R"(], "prb_multiple_of": 1, "n_sym": [)"
         << symbols << R"(], "dmrs": null, "n_dmrs": [)" << slot.dmrs().size()
         << R"(], "cdm_groups": [)" << slot.config().cdm_groups << R"(], "modulations": [")"
         << slot.modulation() << R"("], "bits": )" << bits << "}";

    torch::jit::Module module("built_in");
    module.register_parameter("weights", weights, /*is_buffer=*/false);
    module.define(
        "def forward(self, y: Tensor, p: Tensor, d: Tensor, bits: List[int]) -> Tensor:\n"
        "    planes = torch.conv2d(p[:, 0].permute(0, 3, 1, 2), self.weights, padding=1)\n"
        "    return planes.permute(0, 2, 3, 1).contiguous().unsqueeze(1)\n");
    std::ostringstream file;
    module.save(file,
                { { "deeprx.json", json.str() },
                  { "openvino/bits" + n + ".xml", ir.text() },
                  { "openvino/bits" + n + ".bin", data } });
    return file.str();
}

} // namespace gr::deeprx
