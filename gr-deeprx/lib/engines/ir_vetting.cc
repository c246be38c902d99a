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
    if (error != std::errc() || end != text.data() + text.size() || text.size() > 20)
        refuse("the offset or size '" + text + "'");
    return value;
}

std::string path(const pugi::xml_node& node)
{
    return node.parent().type() == pugi::node_element ? path(node.parent()) + '/' + node.name()
                                                      : std::string(node.name());
}

constexpr std::string_view declaration = "<?xml version=\"1.0\"?>";

/*
 * Of XML this alone behind OpenVINO's declaration, which parsers cannot see in two ways: tags with
 * values in quotes around text, of printable ASCII without entities, in one element.
 * deeprx_common.model_ir has the same as an expression.
 */
class plain_xml
{
public:
    explicit plain_xml(std::string_view text) : d_left(text) {}

    bool is_plain()
    {
        int depth = 0, elements = 0;
        while (!d_left.empty()) {
            spaces();
            if (d_left.empty())
                break;
            if (take("</")) {
                if (!name() || (spaces(), !take(">")) || --depth < 0)
                    return false;
            } else if (take("<")) {
                if (!name() || !attributes() || (depth == 0 && elements++ > 0))
                    return false;
                const bool closed = take("/");
                if (!take(">"))
                    return false;
                depth += !closed;
            } else if (depth == 0 || !characters("<>&")) {
                return false;
            }
        }
        return depth == 0 && elements == 1;
    }

private:
    bool take(std::string_view token)
    {
        if (d_left.substr(0, token.size()) != token)
            return false;
        d_left.remove_prefix(token.size());
        return true;
    }

    template <typename F>
    size_t take_while(F is)
    {
        size_t n = 0;
        while (n < d_left.size() && is(d_left[n]))
            n++;
        d_left.remove_prefix(n);
        return n;
    }

    bool spaces()
    {
        return take_while([](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; });
    }

    //! Some; of values and text.
    bool characters(const std::string& but)
    {
        return take_while(
            [&](char c) { return c >= ' ' && c <= '~' && but.find(c) == std::string::npos; });
    }

    bool name()
    {
        const auto letter = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        };
        if (d_left.empty() || !letter(d_left[0]))
            return false;
        return take_while(
            [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-'; });
    }

    bool attributes()
    {
        while (spaces() && !d_left.empty() && d_left[0] != '/' && d_left[0] != '>') {
            if (!name() || !take("="))
                return false;
            const std::string quote(d_left.substr(0, 1));
            if ((quote != "\"" && quote != "'") || !take(quote))
                return false;
            characters("<>&" + quote);
            if (!take(quote))
                return false;
        }
        return true;
    }

    std::string_view d_left;
};

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
        if (type != pugi::node_element)
            return true;
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
    if (xml.substr(0, declaration.size()) != declaration)
        refuse("what is no XML");
    if (!plain_xml(xml.substr(declaration.size())).is_plain())
        refuse("XML other than plain tags");
    // The parser that OpenVINO has, too
    pugi::xml_document document;
    constexpr unsigned raw = pugi::parse_full & ~pugi::parse_escapes;
    if (!document.load_buffer(xml.data(), xml.size(), raw, pugi::encoding_utf8))
        refuse("XML other than plain tags");
    const auto net = document.document_element();
    const std::string version = net.attribute("version").value();
    if (net.name() != std::string("net") || (version != "10" && version != "11"))
        refuse("another format than that of IR 10 and 11");
    vetting walker(weights);
    document.traverse(walker);
}

} // namespace gr::deeprx
