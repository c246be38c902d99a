/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ir_vetting.h"
#include "model_rules.h"
#include "printable.h"

#include <pugixml.hpp>

#include <charconv>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>

namespace gr::deeprx {

namespace {

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error("the OpenVINO IR is refused, " + printable(what, 200) +
                             " is not allowed in it");
}

size_t to_size(const std::string& text)
{
    size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        refuse("the offset or size '" + text + "'");
    return value;
}

std::string path(const pugi::xml_node& node)
{
    return node.parent().type() == pugi::node_element ? path(node.parent()) + '/' + node.name()
                                                      : std::string(node.name());
}

//! Refuses what no plain IR has, behind which a layer could hide from one of two readers.
class vetting : public pugi::xml_tree_walker
{
public:
    explicit vetting(size_t weights) : d_weights(weights) {}

private:
    bool for_each(pugi::xml_node& node) override
    {
        if (static_cast<size_t>(depth()) >= rules().xml_depth)
            refuse("XML nested more than " + std::to_string(rules().xml_depth) + " levels deep");
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
        const std::string name = node.name(), parent = node.parent().name();
        static const std::unordered_set<std::string> of_a_layer{
            "data", "input", "output", "rt_info"
        };
        if (parent == "data" || (parent == "layer" && !of_a_layer.count(name) && name != "layer"))
            refuse("a " + name + " within a " + parent);
        if (name == "layer") {
            const std::string layer = text(node, "type"), opset = text(node, "version");
            if (opset.rfind("opset", 0) != 0)
                refuse("the layer " + layer + " of " + opset);
            if (!rules().ir_layers.count(layer))
                refuse("the layer " + layer);
            if (path(node) != "net/layers/layer")
                refuse("a layer within another part than the net's layers");
        } else if (name == "data" && text(node.parent(), "type") == "Const") {
            const size_t offset = to_size(text(node, "offset")), size = to_size(text(node, "size"));
            if (offset > d_weights || size > d_weights - offset)
                refuse("a constant outside its weights");
            if (!rules().ir_elements.count(text(node, "element_type")))
                refuse("a constant of type '" + text(node, "element_type") + "'");
        }
        return true;
    }

    const size_t d_weights;
};

} // namespace

void vet_ir(std::string_view xml, size_t weights)
{
    if (xml.size() > rules().xml_bytes)
        refuse("an XML of " + std::to_string(xml.size()) + " bytes");
    if (xml.rfind("<?xml ", 0) != 0 || xml.find("?>") + 1 != xml.find('>') ||
        xml.find('\0') != std::string::npos)
        refuse("what is no XML");
    if (xml.find('&') != std::string::npos)
        refuse("XML other than plain tags"); // what is written, not what it may stand for
    // The parser that OpenVINO has, too
    pugi::xml_document document;
    constexpr unsigned raw = pugi::parse_full & ~pugi::parse_escapes;
    if (!document.load_buffer(xml.data(), xml.size(), raw, pugi::encoding_utf8))
        refuse("XML other than plain tags");
    const auto net = document.document_element();
    const std::string version = net.attribute("version").value();
    if (net.name() != std::string("net") || (version != "10" && version != "11"))
        refuse("another format than that of IR 10 and 11");
    if (net.next_sibling())
        refuse("XML other than plain tags");
    vetting walker(weights);
    document.traverse(walker);
}

} // namespace gr::deeprx
