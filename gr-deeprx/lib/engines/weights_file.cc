/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "weights_file.h"
#include "json_check.h"
#include "model_rules.h"

#include <nlohmann/json.hpp>

#include <stdexcept>
#include <unordered_map>

namespace gr::deeprx {

namespace {

using nlohmann::json;

constexpr const char* name_of_file = "weights.safetensors";

[[noreturn]] void refuse(const std::string& why)
{
    throw std::runtime_error(std::string(name_of_file) + ' ' + why);
}

std::string quoted(const std::string& name) { return json(name).dump(-1, ' ', true).substr(0, 80); }

const json& member(const json& entry, const char* key, const std::string& name)
{
    const auto found = entry.find(key);
    if (found == entry.end())
        refuse("has no " + std::string(key) + " of " + quoted(name));
    return *found;
}

size_t element_bytes(const json& dtype, const std::string& name)
{
    static const std::unordered_map<std::string, size_t> all{
        { "BOOL", 1 }, { "U8", 1 },   { "I8", 1 },  { "I16", 2 }, { "U16", 2 },
        { "F16", 2 },  { "BF16", 2 }, { "I32", 4 }, { "U32", 4 }, { "F32", 4 },
        { "F64", 8 },  { "I64", 8 },  { "U64", 8 }, { "C64", 8 },
    };
    if (dtype.is_string())
        if (const auto found = all.find(dtype); found != all.end())
            return found->second;
    refuse("has a type of " + quoted(name) + " that is not known");
}

//! Whole numbers from 0 to \p most.
std::vector<int64_t> numbers(const json& list, int64_t most, const std::string& name)
{
    if (!list.is_array() || list.size() > rules().tensor_dims)
        refuse("has a shape or place of " + quoted(name) + " that is none");
    std::vector<int64_t> all;
    for (const json& n : list) {
        if (!n.is_number_unsigned() || n > static_cast<uint64_t>(most))
            refuse("has a shape or place of " + quoted(name) + " that is none");
        all.push_back(n);
    }
    return all;
}

} // namespace

std::map<std::string, stored_tensor> read_weights(std::string_view file)
{
    constexpr size_t prefix = 8; // how long the JSON is, lowest byte first
    if (file.size() < prefix)
        refuse("is cut off");
    uint64_t length = 0;
    for (size_t i = prefix; i-- > 0;)
        length = length << 8 | static_cast<unsigned char>(file[i]);
    if (length > file.size() - prefix)
        refuse("is cut off");
    const auto header = file.substr(prefix, length);
    const auto data = file.substr(prefix + length);
    check_json(header, name_of_file);

    std::map<std::string, stored_tensor> tensors;
    std::map<int64_t, int64_t> places; // ends by beginnings
    const json entries = json::parse(header);
    for (const auto& [name, entry] : entries.items()) {
        if (name == "__metadata__")
            continue;
        if (!entry.is_object())
            refuse("has " + quoted(name) + " that is no tensor");
        stored_tensor tensor;
        const json& dtype = member(entry, "dtype", name);
        const size_t size = element_bytes(dtype, name);
        tensor.dtype = dtype;
        const int64_t most = rules().tensor_elements;
        tensor.shape = numbers(member(entry, "shape", name), most, name);
        int64_t elements = 1;
        for (const int64_t n : tensor.shape)
            if ((elements *= n) > most) // each factor is at most `most`: no overflow before
                refuse("has more elements of " + quoted(name) + " than " + std::to_string(most));
        const auto place = numbers(member(entry, "data_offsets", name), data.size(), name);
        if (place.size() != 2 || place[0] > place[1] ||
            static_cast<uint64_t>(place[1] - place[0]) != elements * size)
            refuse("has other bytes of " + quoted(name) + " than its shape and type say");
        if (place[0] < place[1] && !places.emplace(place[0], place[1]).second)
            refuse("has tensors that overlap");
        tensor.bytes = data.substr(place[0], place[1] - place[0]);
        tensors.emplace(name, std::move(tensor));
    }
    int64_t end = 0;
    for (const auto& [first, last] : places) {
        if (first != end)
            refuse(first < end ? "has tensors that overlap" : "has bytes of no tensor");
        end = last;
    }
    if (end != static_cast<int64_t>(data.size()))
        refuse("has bytes of no tensor");
    return tensors;
}

} // namespace gr::deeprx
