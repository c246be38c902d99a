/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_info.h"
#include "cpu_instructions.h"

#include <boost/property_tree/json_parser.hpp>
#include <boost/property_tree/ptree.hpp>

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace gr::deeprx {

namespace {

using boost::property_tree::ptree;

constexpr const char* contract = "deeprx.model/1";

// The JSON parser is recursive: a file of brackets must not overflow the stack.
void expect_shallow(const std::string& json)
{
    int depth = 0;
    for (const char c : json) {
        if (c == '[' || c == '{')
            depth++;
        else if (c == ']' || c == '}')
            depth--;
        if (depth > 64)
            throw std::runtime_error("deeprx.json is nested more than 64 levels deep");
    }
}

const ptree& member(const ptree& json, const std::string& key)
{
    const auto found = json.find(key);
    if (found == json.not_found())
        throw std::runtime_error("deeprx.json has no \"" + key + "\"");
    return found->second;
}

template <typename T>
T value(const ptree& node, const std::string& key)
{
    const auto v = node.get_value_optional<T>();
    if (!v || !node.empty())
        throw std::runtime_error("deeprx.json: \"" + key + "\" is not what " + contract +
                                 " asks for there");
    return *v;
}

template <typename T>
std::vector<T> list(const ptree& node, const std::string& key)
{
    std::vector<T> items;
    for (const auto& [name, item] : node)
        items.push_back(value<T>(item, key));
    return items;
}

template <typename T>
std::string text(const std::vector<T>& items)
{
    std::ostringstream out;
    out << '[';
    for (size_t i = 0; i < items.size(); i++)
        out << (i ? ", " : "") << items[i];
    out << ']';
    return out.str();
}

bool is_null(const ptree& node) { return node.empty() && node.data() == "null"; }

template <typename T>
bool contains(const std::vector<T>& items, const T& item)
{
    return std::find(items.begin(), items.end(), item) != items.end();
}

} // namespace

model_info parse_model_info(const std::string& text)
{
    expect_shallow(text);
    ptree json;
    try {
        std::istringstream in(text);
        boost::property_tree::read_json(in, json);
    } catch (const boost::property_tree::json_parser_error& e) {
        throw std::runtime_error("deeprx.json is not JSON: line " + std::to_string(e.line()) +
                                 ": " + e.message());
    }

    const auto found = value<std::string>(member(json, "contract"), "contract");
    if (found != contract)
        throw std::runtime_error("contract is \"" + found + "\", this receiver reads \"" +
                                 contract + "\"");

    model_info info;
    info.name = value<std::string>(member(json, "name"), "name");
    info.precision = json.get<std::string>("precision", "float32");
    info.requirements = list<std::string>(member(json, "requires"), "requires");
    const ptree& quantized = member(json, "quantized_engine");
    if (!is_null(quantized))
        info.quantized_engine = value<std::string>(quantized, "quantized_engine");
    info.prb_multiple_of = value<int>(member(json, "prb_multiple_of"), "prb_multiple_of");
    info.n_rx = list<int>(member(json, "n_rx"), "n_rx");
    const ptree& dmrs = member(json, "dmrs");
    if (!is_null(dmrs))
        for (const auto& [name, symbols] : dmrs)
            info.dmrs.push_back(list<int>(symbols, "dmrs"));
    info.modulations = list<std::string>(member(json, "modulations"), "modulations");
    info.bits = value<int>(member(json, "bits"), "bits");

    info.flop_per_prb = 0;
    info.flop_n_rx = 0;
    if (const auto flop = json.get_child_optional("flop_per_slot"); flop && !is_null(*flop)) {
        const auto matmul = value<uint64_t>(member(*flop, "matmul"), "matmul");
        const auto other = value<uint64_t>(member(*flop, "other"), "other");
        const auto n_prb = value<int>(member(*flop, "n_prb"), "n_prb");
        if (n_prb < 1)
            throw std::runtime_error("deeprx.json: \"flop_per_slot\" was counted over " +
                                     std::to_string(n_prb) + " PRB");
        info.flop_per_prb = (static_cast<double>(matmul) + static_cast<double>(other)) / n_prb;
        info.flop_n_rx = value<int>(member(*flop, "n_rx"), "n_rx");
    }

    const int n_sym = value<int>(member(json, "n_sym"), "n_sym");
    if (n_sym != slot_geometry::n_symbols)
        throw std::runtime_error("the model is for slots of " + std::to_string(n_sym) +
                                 " symbols, this receiver's have 14");
    if (info.prb_multiple_of < 1)
        throw std::runtime_error("deeprx.json: \"prb_multiple_of\" must be 1 or more, is " +
                                 std::to_string(info.prb_multiple_of));
    return info;
}

void check_model_fits(const model_info& info, const slot_geometry& slot, int n_rx, bool on_cuda)
{
    if (!contains(info.n_rx, n_rx))
        throw std::runtime_error("the model takes n_rx of " + text(info.n_rx) +
                                 ", the receiver has n_rx=" + std::to_string(n_rx));
    if (slot.n_prb() % info.prb_multiple_of)
        throw std::runtime_error("the model takes multiples of " +
                                 std::to_string(info.prb_multiple_of) +
                                 " PRB, the receiver has n_prb=" + std::to_string(slot.n_prb()));
    if (!info.dmrs.empty() && !contains(info.dmrs, slot.dmrs())) {
        std::vector<std::string> all;
        for (const auto& symbols : info.dmrs)
            all.push_back(text(symbols));
        throw std::runtime_error("the model takes DMRS symbols " + text(all) +
                                 ", the receiver has dmrs=" + text(slot.dmrs()));
    }
    if (!contains(info.modulations, slot.modulation()))
        throw std::runtime_error("the model takes " + text(info.modulations) +
                                 ", the receiver has modulation=" + slot.modulation());
    if (info.bits < slot.bits_per_symbol())
        throw std::runtime_error("the model gives " + std::to_string(info.bits) +
                                 " bits a symbol, " + slot.modulation() + " needs " +
                                 std::to_string(slot.bits_per_symbol()));

    for (const auto& requirement : info.requirements) {
        if (requirement == "cuda" && !on_cuda)
            throw std::runtime_error("the model needs device=\"cuda\"");
        const bool is_precision = requirement == "bfloat16" || requirement == "int8";
        if (on_cuda || requirement == "cuda" ||
            (is_precision ? cpu_instructions_for(requirement).native : cpu_has(requirement)))
            continue;
        throw std::runtime_error("the model needs a processor with " + requirement +
                                 (is_precision ? " instructions" : "") + ", this one has none");
    }
}

} // namespace gr::deeprx
