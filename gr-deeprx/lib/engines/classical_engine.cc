/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "classical_engine.h"
#include "classical_receiver.h"
#include "native_engine.h"

#include <algorithm>

namespace gr::deeprx {

namespace {

model_info info_of(const std::string& name)
{
    model_info info{};
    info.name = name;
    info.precision = "float32";
    info.bits = 8;
    return info;
}

} // namespace

bool is_classical(const std::string& name)
{
    const auto& names = classical_names();
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::unique_ptr<engine> make_classical_engine(const std::string& name, const engine_parameters& p)
try {
    if (p.device != "cpu")
        throw std::runtime_error("it runs on the CPU, the receiver has device=\"" + p.device + '"');
    if (p.engine != "auto" && p.engine != "native")
        throw std::runtime_error("it is no model file and needs no engine, the receiver has "
                                 "engine=\"" +
                                 p.engine + '"');
    return make_native_engine(
        info_of(name),
        [&] {
            return std::make_unique<classical_receiver>(
                layout_of(p.slot), p.n_rx, classical_kind(name));
        },
        std::string("float32, ") + classical_receiver::best().instructions,
        p);
} catch (const std::exception& e) {
    throw std::runtime_error("receiver '" + name + "': " + e.what());
}

} // namespace gr::deeprx
