/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ir_vetting.h"

#include <pugixml.hpp>

#include <charconv>
#include <stdexcept>
#include <string>
#include <unordered_set>

namespace gr::deeprx {

namespace {

constexpr size_t max_xml_bytes = size_t(64) << 20;

// A layer not among these can be added here once someone has read what it does.
const std::unordered_set<std::string> allowed_layers{
    // clang-format off
    "Parameter", "Result", "Const",
    // arithmetic, comparison and logic
    "Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "Ceiling", "Clamp", "Convert", "ConvertLike", "Cos", "Cosh",
    "CumSum", "Divide", "Equal", "Erf", "Exp", "Floor", "FloorMod", "Greater", "GreaterEqual",
    "IsFinite", "IsInf", "IsNaN", "Less", "LessEqual", "Log", "LogicalAnd", "LogicalNot",
    "LogicalOr", "LogicalXor", "Maximum", "Minimum", "Mod", "Multiply", "Negative", "NotEqual",
    "Power", "Round", "Select", "Sign", "Sin", "Sinh", "Sqrt", "SquaredDifference", "Subtract",
    "Tan", "Tanh",
    // reductions and order
    "ReduceL1", "ReduceL2", "ReduceLogicalAnd", "ReduceLogicalOr", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "TopK",
    // shapes and places
    "Broadcast", "Concat", "DepthToSpace", "Eye", "Gather", "GatherElements", "GatherND",
    "OneHot", "Pad", "Range", "Reshape", "Roll", "ScatterElementsUpdate", "ScatterNDUpdate",
    "ScatterUpdate", "ShapeOf", "ShuffleChannels", "Slice", "SpaceToDepth", "Split", "Squeeze",
    "StridedSlice", "Tile", "Transpose", "Unsqueeze", "VariadicSplit",
    // linear algebra and transforms
    "DFT", "Einsum", "IDFT", "IRDFT", "Inverse", "MatMul", "RDFT",
    // neural network layers
    "AvgPool", "BatchNormInference", "Convolution", "ConvolutionBackpropData", "Elu",
    "FakeQuantize", "Gelu", "GroupConvolution", "GroupConvolutionBackpropData",
    "GroupNormalization", "GRUCell", "GRUSequence", "HSigmoid", "HSwish", "HardSigmoid",
    "Interpolate", "LogSoftmax", "LSTMCell", "LSTMSequence", "MVN", "MaxPool", "Mish",
    "NormalizeL2", "PReLU", "ReLU", "RNNCell", "RNNSequence", "ScaledDotProductAttention",
    "Selu", "Sigmoid", "SoftMax", "SoftPlus", "SoftSign", "Softmax", "Swish",
    // clang-format on
};

const std::unordered_set<std::string> allowed_elements{ "boolean", "bf16", "f16", "f32", "f64",
                                                        "i4",      "i8",   "i16", "i32", "i64",
                                                        "u4",      "u8",   "u16", "u32", "u64" };

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error("the OpenVINO IR is refused, " + what + " is not allowed in it");
}

size_t to_size(const std::string& text)
{
    size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        refuse("the offset or size '" + text + "'");
    return value;
}

//! Refuses what no plain IR has, behind which a layer could hide from one of two readers.
class vetting : public pugi::xml_tree_walker
{
public:
    explicit vetting(size_t weights) : d_weights(weights) {}

private:
    bool for_each(pugi::xml_node& node) override
    {
        const auto type = node.type();
        if (type == pugi::node_declaration || type == pugi::node_pcdata)
            return true;
        if (type != pugi::node_element)
            refuse("XML other than plain tags");
        std::unordered_set<std::string> attributes;
        for (const auto& attribute : node.attributes())
            if (!attributes.insert(attribute.name()).second)
                refuse("XML other than plain tags");

        const auto text = [](const pugi::xml_node& of, const char* attribute) {
            return std::string(of.attribute(attribute).value());
        };
        const std::string name = node.name();
        if (name == "layer") {
            const std::string layer = text(node, "type"), opset = text(node, "version");
            if (opset.rfind("opset", 0) != 0)
                refuse("the layer " + layer + " of " + opset);
            if (!allowed_layers.count(layer))
                refuse("the layer " + layer);
        } else if (name == "data" && text(node.parent(), "type") == "Const") {
            const size_t offset = to_size(text(node, "offset")), size = to_size(text(node, "size"));
            if (offset > d_weights || size > d_weights - offset)
                refuse("a constant outside its weights");
            if (!allowed_elements.count(text(node, "element_type")))
                refuse("a constant of type '" + text(node, "element_type") + "'");
        }
        return true;
    }

    const size_t d_weights;
};

} // namespace

void vet_ir(const std::string& xml, size_t weights)
{
    if (xml.size() > max_xml_bytes)
        refuse("an XML of " + std::to_string(xml.size()) + " bytes");
    if (xml.rfind("<?xml ", 0) != 0 || xml.find("?>") + 1 != xml.find('>') ||
        xml.find('\0') != std::string::npos)
        refuse("what is no XML");
    // The parser that OpenVINO has, too; but what is written, not what it may stand for
    pugi::xml_document document;
    constexpr unsigned raw = pugi::parse_full & ~pugi::parse_escapes;
    if (!document.load_buffer(xml.data(), xml.size(), raw, pugi::encoding_utf8))
        refuse("XML other than plain tags");
    const auto net = document.document_element();
    const std::string version = net.attribute("version").value();
    if (net.name() != std::string("net") || (version != "10" && version != "11"))
        refuse("another format than that of IR 10 and 11");
    vetting rules(weights);
    document.traverse(rules);
}

} // namespace gr::deeprx
