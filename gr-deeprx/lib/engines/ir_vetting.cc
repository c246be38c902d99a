/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "ir_vetting.h"
#include "model_rules.h"
#include "printable.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace gr::deeprx {

namespace {

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error("the OpenVINO IR is refused, " + printable(what, 200) +
                             " is not allowed in it");
}

size_t to_size(std::string_view text)
{
    size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || text.size() > 20)
        refuse("the offset or size '" + std::string(text) + "'");
    return value;
}

[[noreturn]] void refuse_xml()
{
    refuse("XML other than plain tags of at most " + std::to_string(rules().xml_attributes) +
           " attributes");
}

constexpr std::string_view declaration = "<?xml version=\"1.0\"?>";

//! <name ...> opens an element, </name> closes it, <name .../> does both.
struct tag {
    std::string_view name;
    std::vector<std::pair<std::string_view, std::string_view>> attributes;
    bool opens, closes;

    //! "": it has no such one.
    std::string_view value(std::string_view attribute) const
    {
        for (const auto& [name, value] : attributes)
            if (name == attribute)
                return value;
        return {};
    }
};

/*
 * Of XML this alone behind OpenVINO's declaration, which parsers cannot see in two ways: tags with
 * values in quotes around text, of printable ASCII without entities. deeprx_common.model_ir has the
 * same as an expression.
 */
class plain_xml
{
public:
    explicit plain_xml(std::string_view text) : d_left(text) {}

    //! The next tag, behind spaces or, within an element, text; none: there is no more.
    std::optional<tag> next(bool within)
    {
        while (!spaces().empty() || (within && !characters("<>&").empty()))
            ;
        if (d_left.empty())
            return std::nullopt;
        expect("<");
        tag found{};
        found.opens = !take("/");
        found.name = name();
        while (!spaces().empty() && found.opens && !d_left.empty() && d_left[0] != '/' &&
               d_left[0] != '>')
            add_attribute(found);
        found.closes = !found.opens || take("/");
        expect(">");
        return found;
    }

private:
    bool take(std::string_view token)
    {
        if (d_left.substr(0, token.size()) != token)
            return false;
        d_left.remove_prefix(token.size());
        return true;
    }

    void expect(std::string_view token)
    {
        if (!take(token))
            refuse_xml();
    }

    template <typename F>
    std::string_view take_while(F is)
    {
        const auto found =
            d_left.substr(0, std::find_if_not(d_left.begin(), d_left.end(), is) - d_left.begin());
        d_left.remove_prefix(found.size());
        return found;
    }

    std::string_view spaces()
    {
        return take_while([](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; });
    }

    //! Of values and text.
    std::string_view characters(std::string_view but)
    {
        return take_while(
            [&](char c) { return c >= ' ' && c <= '~' && but.find(c) == std::string_view::npos; });
    }

    std::string_view name()
    {
        const auto letter = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        };
        if (d_left.empty() || !letter(d_left[0]))
            refuse_xml();
        return take_while(
            [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '-'; });
    }

    void add_attribute(tag& to)
    {
        const auto attribute = name();
        expect("=");
        const bool single = take("'");
        if (!single)
            expect("\"");
        const auto value = characters(single ? "<>&'" : "<>&\"");
        expect(single ? "'" : "\"");
        const auto& known = to.attributes;
        if (known.size() == rules().xml_attributes ||
            std::any_of(known.begin(), known.end(), [&](auto& k) { return k.first == attribute; }))
            refuse_xml();
        to.attributes.emplace_back(attribute, value);
    }

    std::string_view d_left;
};

//! Refuses what no plain IR has, behind which a layer could hide from one of two readers.
void vet_element(const tag& element, const std::vector<tag>& around, size_t weights)
{
    const auto name = element.name;
    if (around.size() >= rules().xml_depth)
        refuse("XML nested more than " + std::to_string(rules().xml_depth) + " levels deep");
    if (around.empty()) {
        const auto version = element.value("version");
        if (name != "net" || (version != "10" && version != "11"))
            refuse("another format than that of IR 10 and 11");
        return;
    }
    const auto parent = around.back().name;
    static const std::unordered_set<std::string_view> of_a_layer{
        "data", "input", "output", "rt_info"
    };
    if (parent == "data" || (parent == "layer" && !of_a_layer.count(name) && name != "layer"))
        refuse("a " + std::string(name) + " within a " + std::string(parent));
    if (name == "layer") {
        const std::string layer(element.value("type")), opset(element.value("version"));
        if (opset.rfind("opset", 0) != 0)
            refuse("the layer " + layer + " of " + opset);
        if (!rules().ir_layers.count(layer))
            refuse("the layer " + layer);
        if (around.size() != 2 || parent != "layers") // of the net, which is around all
            refuse("a layer within another part than the net's layers");
    } else if (name == "data" && around.back().value("type") == "Const") {
        const size_t offset = to_size(element.value("offset"));
        const size_t size = to_size(element.value("size"));
        if (offset > weights || size > weights - offset)
            refuse("a constant outside its weights");
        const std::string type(element.value("element_type"));
        if (!rules().ir_elements.count(type))
            refuse("a constant of type '" + type + "'");
    }
}

} // namespace

void vet_ir(std::string_view xml, size_t weights)
{
    if (xml.size() > rules().xml_bytes)
        refuse("an XML of " + std::to_string(xml.size()) + " bytes");
    if (xml.substr(0, declaration.size()) != declaration)
        refuse("what is no XML");
    plain_xml text(xml.substr(declaration.size()));
    std::vector<tag> open;
    bool empty = true;
    while (auto next = text.next(!open.empty())) {
        if (next->opens) {
            if (open.empty() && !std::exchange(empty, false))
                refuse_xml();
            vet_element(*next, open, weights);
            open.push_back(*next);
        }
        if (next->closes) {
            if (open.empty() || open.back().name != next->name)
                refuse_xml();
            open.pop_back();
        }
    }
    if (empty || !open.empty())
        refuse_xml();
}

} // namespace gr::deeprx
