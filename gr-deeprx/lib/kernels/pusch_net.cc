/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_net.h"

#include <numeric>
#include <stdexcept>

namespace gr::deeprx {

namespace {

std::string text(const std::vector<int>& shape)
{
    std::string list;
    for (const int n : shape)
        list += (list.empty() ? "" : ", ") + std::to_string(n);
    return '[' + list + ']';
}

void subtract_mean(float* values, int n)
{
    const double mean = std::accumulate(values, values + n, 0.0) / n;
    for (int i = 0; i < n; i++)
        values[i] -= mean;
}

//! Has the first \p some of each \p group of outputs sum to 0, all groups together.
void leave_sum(layer& l, int group, int some)
{
    std::vector<int> chosen;
    for (int o = 0; o < l.outputs; o++)
        if (o % group < some)
            chosen.push_back(o);
    const auto leave = [&chosen](std::vector<float>& values, int width) {
        for (int i = 0; i < width; i++) {
            double sum = 0.0;
            for (const int o : chosen)
                sum += values[o * width + i];
            for (const int o : chosen)
                values[o * width + i] -= sum / chosen.size();
        }
    };
    leave(l.weights, l.inputs);
    leave(l.bias, 1);
}

//! Gives each tensor to whom it belongs.
class state
{
public:
    explicit state(tensors all) : d_left(std::move(all)) {}

    int rows_of(const std::string& name) const
    {
        const auto entry = d_left.find(name);
        return entry == d_left.end() || entry->second.shape.empty() ? 0 : entry->second.shape[0];
    }

    std::vector<float> take(const std::string& name, const std::vector<int>& shape)
    {
        const auto entry = d_left.find(name);
        if (entry == d_left.end())
            throw std::runtime_error("the net's weights lack " + name);
        if (entry->second.shape != shape)
            throw std::runtime_error("the net's " + name + " must be " + text(shape) + ", is " +
                                     text(entry->second.shape));
        auto values = std::move(entry->second.values);
        d_left.erase(entry);
        return values;
    }

    //! \param shape [outputs, inputs, height, width]
    layer take_layer(const std::string& name, const std::vector<int>& shape, bool bias = true)
    {
        layer l{ shape[0], shape[1], shape[2], shape[3], take(name + ".weight", shape), {} };
        if (bias)
            l.bias = take(name + ".bias", { shape[0] });
        return l;
    }

    residual_net
    take_net(const std::string& name, int inputs, int channels, int outputs, int blocks, int height)
    {
        residual_net net{ take_layer(name + ".net.0", { channels, inputs, 1, 1 }), {}, {} };
        int at = 2; // behind a ReLU
        for (int i = 0; i < blocks; i++, at++) {
            const std::string block = name + ".net." + std::to_string(at);
            const std::vector<int> shape{ channels, channels, height, 3 };
            auto inner = take_layer(block + ".inner", shape);
            net.blocks.emplace_back(std::move(inner), take_layer(block + ".outer", shape));
        }
        at++; // another ReLU
        net.last = take_layer(name + ".net." + std::to_string(at), { outputs, channels, 1, 1 });
        return net;
    }

    void expect_empty() const
    {
        if (!d_left.empty())
            throw std::runtime_error("the net's weights hold " + d_left.begin()->first +
                                     ", which it does not know");
    }

private:
    tensors d_left;
};

} // namespace

layer layer::of_inputs(const std::vector<int>& some) const
{
    layer part{ outputs, static_cast<int>(some.size()), height, width, {}, {} };
    const int area = height * width;
    for (int o = 0; o < outputs; o++)
        for (const int i : some) {
            const auto from = weights.begin() + (o * inputs + i) * area;
            part.weights.insert(part.weights.end(), from, from + area);
        }
    return part;
}

layer layer::first_outputs(int n) const
{
    layer part{ n, inputs, height, width, weights, bias };
    part.weights.resize(n * inputs * height * width);
    if (!bias.empty())
        part.bias.resize(n);
    return part;
}

layer layer::of_fold(int fold) const
{
    constexpr double folds[][3]{ { 1.0 / 4, 0.0, 0.0 },
                                 { -1.0 / 6, -1.0 / 6, -1.0 / 6 },
                                 { -1.0 / 6, 1.0 / 6, -1.0 / 6 },
                                 { 1.0 / 24, 1.0 / 12, 1.0 / 6 },
                                 { 1.0 / 24, -1.0 / 12, 1.0 / 6 },
                                 { 0.0, 0.0, 1.0 } };
    layer part{ outputs, inputs, 1, width, {}, {} };
    for (int i = 0; i < outputs * inputs; i++)
        for (int column = 0; column < width; column++) {
            double sum = 0.0;
            for (int row = 0; row < height; row++)
                sum += folds[fold][row] * weights[(i * height + row) * width + column];
            part.weights.push_back(sum);
        }
    if (fold == 1) // which is once in each row
        part.bias = bias;
    return part;
}

layer pusch_net::correction::own() const
{
    const int n_filters = over_frequency.outputs, basis = into.outputs;
    layer l{ 2 * n_filters, basis, 1, 1, {}, std::vector<float>(2 * n_filters) };
    for (int o = 0; o < 2 * n_filters; o++) {
        const int f = o % n_filters;
        const float time =
            o < n_filters ? 1.0f : over_time.weights[f * over_time.height + over_time.height / 2];
        for (int i = 0; i < basis; i++) {
            double through = 0.0;
            for (int j = 0; j < into.inputs; j++)
                through += double(back.weight(j, o)) * into.weight(i, j);
            const int middle = over_frequency.width / 2;
            const float here =
                over_frequency.weights[(f * basis + i) * over_frequency.width + middle];
            l.weights.push_back(through / into.inputs * here * time);
        }
    }
    return l;
}

pusch_net make_pusch_net(const pusch_numbers& n, tensors weights)
{
    state all(std::move(weights));
    pusch_net net;
    net.numbers = n;
    const int n_lists = all.rows_of("dmrs_lists"), n_symbols = net.n_symbols;
    const auto lists = all.take("dmrs_lists", { n_lists, n_symbols });
    const auto modes = all.take("modes", { n_lists, net.n_modes, n_symbols, net.most_dmrs });
    for (int i = 0; i < n_lists; i++) {
        const auto list = lists.begin() + i * n_symbols;
        net.dmrs_lists.emplace_back(list, list + n_symbols);
        const int size = net.n_modes * n_symbols * net.most_dmrs;
        net.modes.emplace_back(modes.begin() + i * size, modes.begin() + (i + 1) * size);
    }
    constexpr int span = 7; // PRBs
    const int n_windows = 6 * net.n_windows, n_learned = 6 * n.learned;
    net.windows = { n_windows, 6, 1, span, all.take("windows", { n_windows, 6, span }), {} };
    auto more = all.take("more_windows", { 2, n_learned, 6, span });
    for (int i = 0; i < 2 * n_learned; i++) // what is alike in all pilots, they leave out
        subtract_mean(&more[i * 6 * span], 6 * span);
    for (int part = 0; part < 2; part++) {
        layer& l = net.learned[part] = { n_learned, 12, 1, span, {}, {} };
        for (int o = 0; o < n_learned; o++)
            for (int from = 0; from < 2; from++) { // (re + j im) of (re + j im)
                const int which = from == part ? 0 : 1;
                const float sign = part == 0 && from == 1 ? -1.0f : 1.0f;
                for (int i = 0; i < 6 * span; i++)
                    l.weights.push_back(sign * more[(which * n_learned + o) * 6 * span + i]);
            }
    }
    const int n_gates = net.n_modes * net.n_bank();
    net.pilot_net = all.take_net("pilot_net",
                                 net.n_plain + net.n_pilot_features + 2 + net.n_slot_numbers,
                                 n.pilot_channels,
                                 n_gates,
                                 n.pilot_blocks,
                                 1);
    leave_sum(net.pilot_net.last, net.n_bank(), net.n_windows);
    for (int i = 0; i < n.rounds; i++) {
        const std::string name = "rounds." + std::to_string(i);
        pusch_net::correction round;
        round.net = all.take_net(name + ".net",
                                 net.n_round_features,
                                 n.channels,
                                 n.basis + 2 * n.filters + net.n_hints,
                                 n.blocks,
                                 3);
        round.into = all.take_layer(name + ".into", { n.basis, 12, 1, 1 }, false);
        round.over_frequency =
            all.take_layer(name + ".over_frequency", { n.filters, n.basis, 1, 5 }, false);
        round.over_time = all.take_layer(name + ".over_time", { n.filters, 1, 13, 1 }, false);
        round.back = all.take_layer(name + ".back", { 12, 2 * n.filters, 1, 1 }, false);
        round.interference = all.take_net("interference." + std::to_string(i) + ".net",
                                          net.n_interference_features + net.n_slot_numbers,
                                          n.interference_channels,
                                          1 + net.n_averaged,
                                          1,
                                          1);
        net.rounds.push_back(std::move(round));
    }
    net.reliability = all.take_net(
        "reliability.net", net.n_reliability_features, n.reliability_channels, net.n_judged, 2, 3);
    all.expect_empty();
    return net;
}

} // namespace gr::deeprx
