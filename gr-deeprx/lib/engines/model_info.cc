/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_info.h"
#include "classical_receiver.h"
#include "cpu_instructions.h"
#include "json_check.h"
#include "model_archive.h"
#include "printable.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <tuple>
#include <type_traits>

namespace gr::deeprx {

namespace {

using nlohmann::json;

constexpr const char* contract = "deeprx.model/2";
constexpr const char* old_contract = "deeprx.model/1";
constexpr double most = 1e18;        // of a number, as deeprx_common.schema has it
constexpr size_t longest_name = 500; // bytes: every message of a slot carries it

[[noreturn]] void refuse(const std::string& key)
{
    throw std::runtime_error("deeprx.json: \"" + key + "\" is not what " + contract +
                             " asks for there");
}

const json& member(const json& object, const std::string& key)
{
    const auto entry = object.find(key);
    if (entry == object.end())
        throw std::runtime_error("deeprx.json has no \"" + key + "\"");
    return *entry;
}

template <typename T>
T value(const json& node, const std::string& key)
{
    if constexpr (std::is_same_v<T, std::string>) {
        if (node.is_string())
            return node;
    } else if constexpr (std::is_integral_v<T>) { // numbers that T holds
        using limits = std::numeric_limits<T>;
        if (node.is_number_unsigned()
                ? node.get<uint64_t>() <= static_cast<uint64_t>(limits::max())
                : node.is_number_integer() && limits::min() < 0 &&
                      node.get<int64_t>() >= static_cast<int64_t>(limits::min()))
            return node;
    } else if (node.is_number()) {
        return node;
    }
    refuse(key);
}

template <typename T>
std::vector<T> list(const json& node, const std::string& key)
{
    if (!node.is_array())
        refuse(key);
    std::vector<T> items;
    for (const json& item : node)
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

template <typename T>
bool contains(const std::vector<T>& items, const T& item)
{
    return std::find(items.begin(), items.end(), item) != items.end();
}

//! "delay spread 10 to 300 ns, Doppler 0 to 500 Hz": of what the file says that it was trained on.
std::string trained_ranges(const json& trained)
{
    struct range {
        const char* key;
        const char* name;
        double scale;
        const char* unit;
    };
    static constexpr range ranges[]{ { "delay_spread_s", "delay spread", 1e9, "ns" },
                                     { "doppler_hz", "Doppler", 1.0, "Hz" },
                                     { "snr_db", "SNR", 1.0, "dB" },
                                     { "sir_db", "SIR", 1.0, "dB" } };
    if (!trained.is_object())
        refuse("trained");
    std::ostringstream out;
    for (const auto& [key, name, scale, unit] : ranges) {
        const auto entry = trained.find(key);
        if (entry == trained.end() || entry->is_null())
            continue;
        const auto limits = list<double>(*entry, key);
        if (limits.size() != 2 || limits[0] > limits[1] || limits[0] < -most || limits[1] > most)
            refuse(key);
        out << (out.tellp() > 0 ? ", " : "") << name << ' ' << limits[0] * scale << " to "
            << limits[1] * scale << ' ' << unit;
    }
    return out.str();
}

} // namespace

model_info parse_model_info(const std::string& text)
{
    check_json(text);
    const json metadata = json::parse(text);
    const auto version = value<std::string>(member(metadata, "contract"), "contract");
    if (version != contract)
        throw std::runtime_error(
            "contract is \"" + version + "\", this receiver reads \"" + contract + '"' +
            (version == old_contract ? ": `./dev train convert FILE.pt` converts the file" : ""));

    model_info info;
    info.name = printable(value<std::string>(member(metadata, "name"), "name"), longest_name);
    info.precision = value<std::string>(metadata.value("precision", json("float32")), "precision");
    if (info.precision != "float32" && info.precision != "bfloat16" && info.precision != "int8")
        refuse("precision");
    info.requirements = list<std::string>(member(metadata, "requires"), "requires");
    const json& quantized = member(metadata, "quantized_engine");
    if (!quantized.is_null())
        info.quantized_engine = value<std::string>(quantized, "quantized_engine");
    const auto numbers = [&](const char* key) {
        auto numbers = list<int>(member(metadata, key), key);
        if (std::any_of(numbers.begin(), numbers.end(), [](int n) { return n < 0; }))
            refuse(key);
        return numbers;
    };
    info.n_layers = numbers("layers");
    info.n_rx = numbers("n_rx");
    info.n_prb = numbers("n_prb");
    if (info.n_prb.size() != 2 || info.n_prb[0] > info.n_prb[1])
        refuse("n_prb");
    info.prb_multiple_of = value<int>(member(metadata, "prb_multiple_of"), "prb_multiple_of");
    const json scs_khz = metadata.value("scs_khz", json());
    info.scs_khz = scs_khz.is_null() ? std::vector<int>{ 15, 30, 60 } // any
                                     : list<int>(scs_khz, "scs_khz");
    info.n_symbols = numbers("n_sym");
    info.n_dmrs = numbers("n_dmrs");
    info.cdm_groups = numbers("cdm_groups");
    const json& dmrs = member(metadata, "dmrs");
    if (!dmrs.is_null() && !dmrs.is_array())
        refuse("dmrs");
    for (const json& symbols : dmrs)
        info.dmrs.push_back(list<int>(symbols, "dmrs"));
    info.modulations = list<std::string>(member(metadata, "modulations"), "modulations");
    info.bits = value<int>(member(metadata, "bits"), "bits");

    info.flop_per_prb = 0;
    info.flop_n_rx = 0;
    if (const json flop = metadata.value("flop_per_slot", json()); !flop.is_null()) {
        const auto matmul = value<uint64_t>(member(flop, "matmul"), "matmul");
        const auto other = value<uint64_t>(member(flop, "other"), "other");
        const auto n_prb = value<int>(member(flop, "n_prb"), "n_prb");
        if (n_prb < 1)
            throw std::runtime_error("deeprx.json: \"flop_per_slot\" was counted over " +
                                     std::to_string(n_prb) + " PRB");
        info.flop_per_prb = (static_cast<double>(matmul) + static_cast<double>(other)) / n_prb;
        info.flop_n_rx = value<int>(member(flop, "n_rx"), "n_rx");
    }

    if (const auto trained = metadata.find("trained");
        trained != metadata.end() && !trained->is_null()) // null: a baseline
        info.trained = trained_ranges(*trained);

    if (info.prb_multiple_of < 1)
        throw std::runtime_error("deeprx.json: \"prb_multiple_of\" must be 1 or more, is " +
                                 std::to_string(info.prb_multiple_of));
    return info;
}

namespace {

//! What of a slot the model does not take, in words; empty: it takes it.
std::string misfit(const model_info& info, const slot_geometry& slot, int n_rx)
{
    const std::tuple<const std::vector<int>&, int, const char*> numbers[]{
        { info.n_rx, n_rx, "n_rx" },
        { info.n_layers, slot.n_layers(), "layers" },
        { info.n_symbols, slot.symbols(), "symbols" },
        { info.cdm_groups, slot.config().cdm_groups, "cdm_groups" },
        { info.scs_khz, slot.config().scs_khz, "scs_khz" },
    };
    for (const auto& [taken, number, what] : numbers)
        if (!contains(taken, number))
            return std::string("the model takes ") + what + " of " + text(taken) +
                   ", the receiver has " + what + "=" + std::to_string(number);
    const auto prb = ", the receiver has n_prb=" + std::to_string(slot.n_prb());
    if (slot.n_prb() < info.n_prb[0] || slot.n_prb() > info.n_prb[1])
        return "the model takes " + std::to_string(info.n_prb[0]) + " to " +
               std::to_string(info.n_prb[1]) + " PRB" + prb;
    if (slot.n_prb() % info.prb_multiple_of)
        return "the model takes multiples of " + std::to_string(info.prb_multiple_of) + " PRB" +
               prb;
    const auto dmrs = ", the receiver has dmrs=" + text(slot.dmrs());
    if (!info.dmrs.empty() && !contains(info.dmrs, slot.dmrs())) {
        std::vector<std::string> all;
        for (const auto& symbols : info.dmrs)
            all.push_back(text(symbols));
        return "the model takes DMRS symbols " + text(all) + dmrs;
    }
    if (!contains(info.n_dmrs, static_cast<int>(slot.dmrs().size())))
        return "the model takes " + text(info.n_dmrs) + " DMRS symbols" + dmrs;
    for (int layer = 0; layer < slot.n_layers(); layer++) {
        const auto& modulation = slot.modulation(layer);
        if (!contains(info.modulations, modulation))
            return "the model takes " + text(info.modulations) +
                   ", the receiver has modulation=" + modulation;
        if (info.bits < slot.bits_per_symbol(layer))
            return "the model gives " + std::to_string(info.bits) + " bits a symbol, " +
                   modulation + " needs " + std::to_string(slot.bits_per_symbol(layer));
    }
    return "";
}

//! "; ls-lmmse, sure-lmmse and gnb take this slot": who needs no training for it.
std::string who_takes(const slot_geometry& slot, int n_rx, bool on_cuda)
{
    const auto names = classical_names_for(slot.n_layers(), n_rx);
    std::string list;
    for (size_t i = 0; i < names.size(); i++)
        list += (i == 0 ? "; " : i + 1 < names.size() ? ", " : " and ") + names[i];
    return list.empty() ? "" : list + " take this slot" + (on_cuda ? ", on the CPU" : "");
}

} // namespace

void check_model_fits(const model_info& info, const slot_geometry& slot, int n_rx, bool on_cuda)
{
    if (const auto what = misfit(info, slot, n_rx); !what.empty())
        throw std::runtime_error(what + who_takes(slot, n_rx, on_cuda));

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

model_info
stated_info(const model_archive& archive, const slot_geometry& slot, int n_rx, bool on_cuda)
{
    model_info info = parse_model_info(std::string(archive.deeprx_json()));
    info.sha256 = archive.sha256();
    check_model_fits(info, slot, n_rx, on_cuda);
    return info;
}

} // namespace gr::deeprx
