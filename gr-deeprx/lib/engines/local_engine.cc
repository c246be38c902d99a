/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "local_engine.h"
#include "data_form.h"
#include "openvino_engine.h"
#include "torchscript_engine.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <sstream>
#include <stdexcept>

namespace gr::deeprx {

namespace {

/*
 * OpenVINO IRs travel in a model file as extra files, one for the layers' bits per symbol, since
 * forward()'s last argument is a constant there: "openvino/bits2.xml" and ".bin", bits4, ... of one
 * layer, "openvino/bits4-2" of two.
 */
std::string ir_name(const slot_geometry& slot)
{
    std::string name = "openvino/bits";
    for (const int bits : slot.bits())
        name += (name.back() == 's' ? "" : "-") + std::to_string(bits);
    return name;
}

//! A slot over a flat channel at 20 dB, the same every time. It has the modulation that is to be
//! received: of symbols between its points a net makes no sense, and two of its forms another.
void write_example(engine& engine, const slot_geometry& slot, int n_rx)
{
    std::minstd_rand random(1);
    std::normal_distribution<float> normal;
    const auto& pilots = slot.pilots(0);
    const size_t n = slot.n_re();
    std::vector<float> sent = pilots; // of one layer after another
    for (int layer = 0; layer < slot.n_layers(); layer++) {
        const int levels = 1 << (slot.bits()[layer] / 2);
        const float spacing = 1.0f / std::sqrt(2.0f * (levels * levels - 1) / 3.0f);
        for (size_t i = 0; i < n; i++)
            for (int axis = 0; axis < 2 && slot.data_mask()[i]; axis++)
                sent[2 * (layer * n + i) + axis] =
                    spacing * float(2 * int(random() % levels) + 1 - levels);
    }
    for (int antenna = 0; antenna < n_rx; antenna++) {
        float* grid = engine.grid(0) + antenna * 2 * n;
        for (size_t i = 0; i < 2 * n; i++)
            grid[i] = 0.07f * normal(random);
        for (int layer = 0; layer < slot.n_layers(); layer++) {
            const float re = normal(random), im = normal(random);
            const float* symbols = &sent[2 * layer * n];
            for (size_t i = 0; i < 2 * n; i += 2) {
                grid[i] += re * symbols[i] - im * symbols[i + 1];
                grid[i + 1] += re * symbols[i + 1] + im * symbols[i];
            }
        }
    }
    std::copy(pilots.begin(), pilots.end(), engine.pilots(0));
}

//! A file must not show one receiver and run another.
void expect_same_llrs(engine& reference,
                      engine& other,
                      const std::string& what,
                      const engine_parameters& p)
{
    write_example(reference, p.slot, p.n_rx);
    write_example(other, p.slot, p.n_rx);
    const float* expected = reference.infer(1);
    const float* actual = other.infer(1);
    double error = 0.0, power = 0.0;
    for (const int bits : p.slot.bits())
        for (const bool is_data : p.slot.data_mask()) {
            for (int bit = 0; is_data && bit < bits; bit++) {
                error += std::pow(double(actual[bit]) - expected[bit], 2);
                power += std::pow(double(expected[bit]), 2);
            }
            expected += reference.llr_stride();
            actual += other.llr_stride();
        }
    const double allowed = reference.info().precision == "float32" ? 1e-3 : 5e-2;
    if (!(std::sqrt(error) <= allowed * std::sqrt(power))) {
        std::ostringstream text;
        text.precision(2);
        text << what << " is another receiver than its TorchScript: LLRs of one slot differ by "
             << std::sqrt(error / power) << " RMS, allowed is " << allowed
             << " (engine=\"torchscript\" runs the TorchScript)";
        throw std::runtime_error(text.str());
    }
}

} // namespace

std::unique_ptr<engine> make_local_engine(const model_archive& archive, const engine_parameters& p)
{
    // OpenVINO is there for one core: with more, LibTorch's threads are faster, and are counted.
    const bool built_in = !openvino_version().empty();
    const bool able = built_in && p.device == "cpu" && p.threads == 1;
    if (p.engine == "openvino" && !able)
        throw std::runtime_error(
            built_in ? "engine=\"openvino\" takes device=\"cpu\" and threads=1"
                     : "engine=\"openvino\": this gr-deeprx was built without OpenVINO");
    auto torchscript = make_torchscript_engine(archive, p); // vets the file
    if (p.engine == "torchscript")
        return torchscript;
    if (p.engine != "openvino" && data_form_obstacle(archive, p).empty()) {
        auto native = make_data_form_engine(archive, p);
        expect_same_llrs(*torchscript, *native, "what its weights make as data", p);
        return native;
    }
    if (!able)
        return torchscript;
    const auto xml = archive.extra_file(ir_name(p.slot) + ".xml");
    const auto weights = archive.extra_file(ir_name(p.slot) + ".bin");
    if (p.engine == "openvino" && !(xml && weights))
        throw std::runtime_error("engine=\"openvino\": the file holds no " + ir_name(p.slot) +
                                 ".xml and .bin (`./dev train export` adds them)");
    if (!xml || !weights)
        return torchscript;
    auto openvino =
        make_openvino_engine(std::string(*xml), std::string(*weights), torchscript->info(), p);
    expect_same_llrs(*torchscript, *openvino, "its OpenVINO IR", p);
    return openvino;
}

} // namespace gr::deeprx
