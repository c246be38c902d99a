/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ir_vetting.h"

#include <cctype>
#include <charconv>
#include <map>
#include <stdexcept>
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

bool is_name(char c)
{
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
}

/*
 * Opening tags of an XML text in order, of the plain kind that OpenVINO writes: what XML has beside
 * them (comments, CDATA, processing instructions, document types), behind which a layer could hide,
 * is refused.
 */
class tag_reader
{
public:
    explicit tag_reader(const std::string& xml) : d_at(xml.data()), d_end(d_at + xml.size())
    {
        const size_t first_end = xml.find('>'); // of the XML declaration
        if (xml.rfind("<?xml ", 0) != 0 || first_end == std::string::npos ||
            xml[first_end - 1] != '?')
            refuse("what is no XML");
        d_at += first_end + 1;
    }

    //! Moves to the next opening tag; false at the end.
    bool next()
    {
        while (true) {
            while (d_at < d_end && *d_at != '<')
                d_at++;
            if (d_at == d_end)
                return false;
            d_at++;
            if (peek() == '/') {
                while (d_at < d_end && *d_at != '>')
                    d_at++;
                continue;
            }
            read_tag();
            return true;
        }
    }

    const std::string& name() const { return d_name; }

    //! Empty: none.
    const std::string& operator[](const std::string& attribute) { return d_attributes[attribute]; }

private:
    char peek() const { return d_at < d_end ? *d_at : '\0'; }

    void skip_space()
    {
        while (std::isspace(static_cast<unsigned char>(peek())))
            d_at++;
    }

    std::string read_name()
    {
        const char* first = d_at;
        while (is_name(peek()))
            d_at++;
        if (d_at == first)
            refuse("XML other than plain tags");
        return { first, d_at };
    }

    void read_tag()
    {
        d_name = read_name();
        d_attributes.clear();
        for (skip_space(); peek() != '>'; skip_space()) {
            if (peek() == '/') {
                d_at++;
                if (peek() != '>')
                    refuse("XML other than plain tags");
                break;
            }
            const std::string key = read_name();
            skip_space();
            if (peek() != '=')
                refuse("XML other than plain tags");
            d_at++;
            skip_space();
            const char quote = peek();
            if (quote != '"' && quote != '\'')
                refuse("XML other than plain tags");
            const char* first = ++d_at;
            while (d_at < d_end && *d_at != quote)
                d_at++;
            if (d_at == d_end || !d_attributes.emplace(key, std::string(first, d_at)).second)
                refuse("XML other than plain tags");
            d_at++;
        }
    }

    const char* d_at;
    const char* const d_end;
    std::string d_name;
    std::map<std::string, std::string> d_attributes;
};

size_t to_size(const std::string& text)
{
    size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        refuse("the offset or size '" + text + "'");
    return value;
}

} // namespace

void vet_ir(const std::string& xml, size_t weights)
{
    if (xml.size() > max_xml_bytes)
        refuse("an XML of " + std::to_string(xml.size()) + " bytes");
    if (xml.find('\0') != std::string::npos)
        refuse("what is no XML");
    tag_reader tag(xml);
    if (!tag.next() || tag.name() != "net" || (tag["version"] != "10" && tag["version"] != "11"))
        refuse("another format than that of IR 10 and 11");
    std::string layer;
    while (tag.next()) {
        if (tag.name() == "layer") {
            layer = tag["type"];
            const std::string& opset = tag["version"];
            if (opset.rfind("opset", 0) != 0)
                refuse("the layer " + layer + " of " + opset);
            if (!allowed_layers.count(layer))
                refuse("the layer " + layer);
        } else if (tag.name() == "data" && layer == "Const") {
            const size_t offset = to_size(tag["offset"]), size = to_size(tag["size"]);
            if (offset > weights || size > weights - offset)
                refuse("a constant outside its weights");
            if (!allowed_elements.count(tag["element_type"]))
                refuse("a constant of type '" + tag["element_type"] + "'");
        }
    }
}

} // namespace gr::deeprx
