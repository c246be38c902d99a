/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "data_form.h"
#include "native_engine.h"
#include "pusch_receiver.h"
#include "weights_file.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace gr::deeprx {

namespace {

using nlohmann::json;

constexpr const char* weights_name = "weights.safetensors";

// A stranger's net must not keep a core for ever: a slot of 273 PRB with two users is to take about
// a second at most. Nearly all of it goes into the rounds' blocks, by this product.
constexpr int64_t most_work = int64_t{ 64 } * 64 * 32; // channels^2 blocks rounds

//! An argument of PuschRx.
int number(const json& net, const char* key, int least, int most)
{
    const auto entry = net.find(key);
    if (entry == net.end() || !entry->is_number_integer() || *entry < least || *entry > most)
        throw std::runtime_error(std::string("deeprx.json: \"") + key +
                                 "\" of its net must be a whole number from " +
                                 std::to_string(least) + " to " + std::to_string(most));
    return *entry;
}

pusch_numbers numbers_of(const json& net)
{
    const pusch_numbers n{ number(net, "pilot_channels", 1, 256),
                           number(net, "pilot_blocks", 0, 8),
                           number(net, "learned", 1, 16),
                           number(net, "channels", 1, 128),
                           number(net, "blocks", 0, 8),
                           number(net, "rounds", 0, 8),
                           number(net, "basis", 1, 12),
                           number(net, "filters", 1, 64),
                           number(net, "interference_channels", 1, 256),
                           number(net, "reliability_channels", 1, 64) };
    const int64_t work = int64_t{ n.channels } * n.channels * n.blocks * n.rounds;
    if (work > most_work)
        throw std::runtime_error("deeprx.json: \"channels\" squared times \"blocks\" times "
                                 "\"rounds\" of its net must be at most " +
                                 std::to_string(most_work) + ", is " + std::to_string(work));
    return n;
}

tensors floats_of(std::string_view file)
{
    tensors all;
    for (const auto& [name, stored] : read_weights(file)) {
        const bool half = stored.dtype == "BF16"; // the upper half of a float
        if (stored.dtype != "F32" && !half)
            throw std::runtime_error(std::string(weights_name) + ": " + name +
                                     " must be F32 or BF16, is " + stored.dtype);
        tensor& t = all[name];
        for (const int64_t n : stored.shape)
            t.shape.push_back(static_cast<int>(n)); // at most model_rules' tensor_elements
        const size_t size = half ? sizeof(uint16_t) : sizeof(float);
        t.values.resize(stored.bytes.size() / size);
        for (size_t i = 0; i < t.values.size(); i++) {
            uint32_t bits = 0;
            std::memcpy(&bits, stored.bytes.data() + i * size, size);
            bits <<= half ? 16 : 0;
            std::memcpy(&t.values[i], &bits, sizeof(bits));
            if (!std::isfinite(t.values[i]))
                throw std::runtime_error(std::string(weights_name) + ": " + name +
                                         " holds NaN or infinity");
        }
    }
    return all;
}

} // namespace

std::string data_form_obstacle(const model_archive& archive, const engine_parameters& p)
{
    if (p.device != "cpu")
        return "takes device=\"cpu\"";
    if (!archive.extra_file(weights_name))
        return std::string("the file holds no ") + weights_name;
    const json about = json::parse(archive.deeprx_json());
    const json net = about.value("net", json());
    if (!net.is_object() || net.value("net", json()) != "PuschRx")
        return "the file is of no net that it knows: PuschRx";
    return "";
}

std::unique_ptr<engine> make_data_form_engine(const model_archive& archive,
                                              const engine_parameters& p)
{
    const auto info = stated_info(archive, p.slot, p.n_rx, /*on_cuda=*/false);
    const auto net = make_pusch_net(numbers_of(json::parse(archive.deeprx_json()).at("net")),
                                    floats_of(*archive.extra_file(weights_name)));
    const auto& kernel = pusch_receiver::best();
    const auto* const packed = pusch_packed(info.precision);
    return make_native_engine(
        info,
        [&] {
            return std::make_unique<pusch_receiver>(layout_of(p.slot), p.n_rx, net, kernel, packed);
        },
        packed ? info.precision + ", " + packed->instructions
               : std::string("float32, ") + kernel.instructions,
        p);
}

} // namespace gr::deeprx
