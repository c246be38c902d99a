/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pusch_receiver.h"
#include "raises.h"
#include "weights_file.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <ostream>
#include <random>

using namespace gr::deeprx;

namespace gr::deeprx {

std::ostream& operator<<(std::ostream& out, const pusch_kernel* kernel)
{
    return out << kernel->instructions;
}

} // namespace gr::deeprx

BOOST_AUTO_TEST_SUITE(pusch_receiver_suite)

namespace {

//! What PyTorch gives: golden/make_pusch_rx.py.
const tensors& golden()
{
    static const auto all = [] {
        std::ifstream stream(GOLDEN "/pusch_rx.safetensors", std::ios::binary);
        const std::string file{ std::istreambuf_iterator<char>(stream), {} };
        tensors found;
        for (const auto& [name, stored] : read_weights(file)) {
            tensor& t = found[name];
            t.shape.assign(stored.shape.begin(), stored.shape.end());
            t.values.resize(stored.bytes.size() / sizeof(float));
            std::memcpy(t.values.data(), stored.bytes.data(), stored.bytes.size());
        }
        return found;
    }();
    return all;
}

const nlohmann::json& about()
{
    static const auto json = nlohmann::json::parse(std::ifstream(GOLDEN "/pusch_rx.json"));
    return json;
}

pusch_numbers numbers()
{
    const auto& n = about()["net"];
    return { n["pilot_channels"],
             n["pilot_blocks"],
             n["learned"],
             n["channels"],
             n["blocks"],
             n["rounds"],
             n["basis"],
             n["filters"],
             n["interference_channels"],
             n["reliability_channels"] };
}

tensors weights()
{
    tensors found;
    for (const auto& [name, tensor] : golden())
        if (name.rfind("net.", 0) == 0)
            found[name.substr(4)] = tensor;
    return found;
}

struct slot {
    explicit slot(int number)
        : json(about()["slots"][number]), name("slots." + std::to_string(number) + '.'),
          n_rx(json["n_rx"]), layout{
              json["n_symbols"], json["n_sc"], json["dmrs"], json["cdm_groups"], {}
          }
    {
        for (size_t i = 0; i < json["ports"].size(); i++)
            layout.layers.push_back({ json["ports"][i], json["bits"][i] });
    }
    const std::vector<float>& values(const char* what) const
    {
        return golden().at(name + what).values;
    }
    const nlohmann::json json;
    const std::string name;
    const int n_rx;
    pilot_layout layout;
};

//! Whether a resource element carries data.
bool is_data(const pilot_layout& layout, size_t re)
{
    const int symbol = re / layout.n_subcarriers;
    const bool dmrs = std::count(layout.dmrs.begin(), layout.dmrs.end(), symbol);
    return !dmrs || (layout.cdm_groups == 1 && re % layout.n_subcarriers % 2 == 1);
}

std::vector<float> data_llrs(const pilot_layout& layout, const std::vector<float>& llrs)
{
    const size_t n_re = layout.n_symbols * layout.n_subcarriers;
    const size_t stride = llrs.size() / layout.n_layers() / n_re;
    std::vector<float> kept;
    for (size_t i = 0; i < llrs.size(); i++)
        if (is_data(layout, i / stride % n_re))
            kept.push_back(llrs[i]);
    return kept;
}

//! RMS of the difference over the RMS.
double apart(const std::vector<float>& a, const std::vector<float>& b)
{
    BOOST_REQUIRE(a.size() == b.size());
    double error = 0.0, power = 0.0;
    for (size_t i = 0; i < a.size(); i++) {
        error += std::pow(double(a[i]) - b[i], 2);
        power += std::pow(double(b[i]), 2);
    }
    return std::sqrt(error / power);
}

//! Null: this processor has none of that name.
template <typename kernel>
const kernel* named(std::vector<const kernel*> (*all)(), const std::string& instructions)
{
    for (const kernel* k : all())
        if (k->instructions == instructions)
            return k;
    return nullptr;
}

template <typename kernel>
auto has(std::vector<const kernel*> (*all)(), const char* instructions)
{
    return boost::unit_test::precondition([=](boost::unit_test::test_unit_id) {
        return boost::test_tools::assertion_result(named(all, instructions) != nullptr);
    });
}

void check_llrs_and_estimates_are_pytorchs(const pusch_kernel& kernel, int number)
{
    const slot s(number);
    const auto net = make_pusch_net(numbers(), weights());
    pusch_receiver receiver(s.layout, s.n_rx, net, kernel);
    const auto& expected = s.values("llr");
    std::vector<float> llr(expected.size(), NAN), first;
    for (int time = 0; time < 2; time++) { // nothing of a slot stays for the next
        receiver.receive(s.values("y").data(), s.values("p").data(), llr.data());
        BOOST_TEST(apart(data_llrs(s.layout, llr), data_llrs(s.layout, expected)) < 1e-5);
        if (time == 0)
            first = llr;
    }
    BOOST_TEST(llr == first);

    std::vector<float> channel(s.values("channel").size()), noise(s.n_rx);
    receiver.estimate(s.values("y").data(), s.values("p").data());
    receiver.copy_channel(channel.data());
    receiver.copy_noise(noise.data());
    BOOST_TEST(apart(channel, s.values("channel")) < 1e-5);
    BOOST_TEST(apart(noise, s.values("noise")) < 1e-5);
}

} // namespace

BOOST_DATA_TEST_CASE(llrs_and_estimates_are_pytorchs, boost::unit_test::data::xrange(5), number)
{
    check_llrs_and_estimates_are_pytorchs(*pusch_kernels().back(), number);
}

BOOST_AUTO_TEST_CASE(llrs_and_estimates_with_avx2_are_pytorchs, *has(pusch_kernels, "AVX2"))
{
    for (int number = 0; number < 5; number++)
        check_llrs_and_estimates_are_pytorchs(*named(pusch_kernels, "AVX2"), number);
}

BOOST_AUTO_TEST_CASE(llrs_and_estimates_with_avx512_are_pytorchs, *has(pusch_kernels, "AVX-512"))
{
    for (int number = 0; number < 5; number++)
        check_llrs_and_estimates_are_pytorchs(*named(pusch_kernels, "AVX-512"), number);
}

BOOST_AUTO_TEST_CASE(a_slot_of_nothing_leaves_nothing_behind)
{
    const slot s(0);
    const auto net = make_pusch_net(numbers(), weights());
    auto all = pusch_quads();
    all.push_back(nullptr); // float32
    if (pusch_pairs())
        all.push_back(pusch_pairs());
    for (const packed_kernel* packed : all) {
        pusch_receiver receiver(s.layout, s.n_rx, net, pusch_receiver::best(), packed);
        std::vector<float> llr(s.values("llr").size()), expected = llr;
        receiver.receive(s.values("y").data(), s.values("p").data(), expected.data());
        for (const float nothing : { NAN, 0.0f }) {
            const std::vector<float> grid(s.values("y").size(), nothing);
            receiver.receive(grid.data(), s.values("p").data(), llr.data());
            receiver.receive(s.values("y").data(), s.values("p").data(), llr.data());
            BOOST_TEST(data_llrs(s.layout, llr) == data_llrs(s.layout, expected));
        }
    }
}

BOOST_DATA_TEST_CASE(folded_rows_give_a_convolution,
                     boost::unit_test::data::make(pusch_kernels()),
                     kernel)
{
    std::minstd_rand random(2);
    std::normal_distribution<float> normal;
    constexpr int inputs = 3, outputs = 7;
    layer l{ outputs, inputs, 3, 3, {}, {} };
    for (int i = 0; i < outputs * inputs * 9; i++)
        l.weights.push_back(normal(random));
    for (int o = 0; o < outputs; o++)
        l.bias.push_back(normal(random));
    for (const int n_rows : { 1, 4, 6, 7, 13, 14 })
        for (const int stride : { 3, 8, 28, 35 })
            for (const bool together : { true, false }) {
                const int n = n_rows * stride, all_quads = (n_rows + 3) / 4;
                const int quads = together ? all_quads : 1;
                planes from(inputs, n, stride + 1), to(outputs, n, stride + 1), mask(1, 4 * n),
                    nothing(1, stride), folded(n_folds * inputs, quads * stride, 1),
                    convolved(n_folds * outputs, quads * stride, 1);
                auto* const all = reinterpret_cast<int32_t*>(mask[0]);
                for (int p = 0; p < 4 * n; p++) // rows end with one that is not there
                    all[p] = p % stride < stride - 1 ? -1 : 0;
                std::vector<float> before(outputs * n);
                for (int p = 0; p < n; p++) {
                    for (int i = 0; i < inputs; i++)
                        from[i][p] = all[p] ? normal(random) : 0.0f;
                    for (int o = 0; o < outputs; o++)
                        before[o * n + p] = to[o][p] = all[p] ? normal(random) : 0.0f;
                }
                for (int first = 0; first < n_rows; first += 4 * quads) {
                    kernel->fold({ inputs,
                                   stride,
                                   n_rows,
                                   first,
                                   quads,
                                   from[0],
                                   from.pitch(),
                                   nothing[0],
                                   folded[0],
                                   folded.pitch() });
                    for (int fold = 0; fold < n_folds; fold++)
                        kernel->sum(plane_sum(l.of_fold(fold), folded.pitch(), 0)
                                        .job(folded[fold * inputs],
                                             convolved[fold * outputs],
                                             convolved.pitch(),
                                             quads * stride,
                                             all));
                    kernel->unfold({ outputs,
                                     stride,
                                     n_rows,
                                     first,
                                     quads,
                                     convolved[0],
                                     convolved.pitch(),
                                     to[0],
                                     to.pitch(),
                                     to[0],
                                     to.pitch(),
                                     true,
                                     all });
                }
                double worst = 0.0;
                for (int o = 0; o < outputs; o++)
                    for (int p = 0; p < n; p++) {
                        double expected = l.bias[o] + before[o * n + p];
                        for (int i = 0; i < inputs; i++)
                            for (int at = 0; at < 9; at++)
                                expected += double(l.weights[(o * inputs + i) * 9 + at]) *
                                            from[i][p + (at / 3 - 1) * stride + at % 3 - 1];
                        expected = all[p] ? std::max(expected, 0.0) : 0.0;
                        worst = std::max(worst, std::abs(to[o][p] - expected));
                    }
                BOOST_TEST(worst < 1e-4, n_rows << " rows of " << stride << ": " << worst);
            }
}

const auto has_pairs = [](boost::unit_test::test_unit_id) {
    return boost::test_tools::assertion_result(pusch_pairs() != nullptr);
};

BOOST_AUTO_TEST_CASE(sums_of_pairs_are_those_of_bfloat16,
                     *boost::unit_test::precondition(has_pairs))
{
    const auto rounded = [](float x) { // to the nearest in bfloat16
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof(bits));
        bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
        std::memcpy(&x, &bits, sizeof(bits));
        return x;
    };
    std::minstd_rand random(1);
    std::normal_distribution<float> normal;
    constexpr int n = 150, stride = 10, reach = stride + 1; // rows with an end that is masked
    for (const int inputs : { 1, 4, 7 })
        for (const int outputs : { 1, 2, 7, 12, 13 }) {
            layer l{ outputs, inputs, 3, 3, {}, {} };
            for (int i = 0; i < outputs * inputs * 9; i++)
                l.weights.push_back(i % 5 ? normal(random) : 0.0f);
            for (int o = 0; o < outputs; o++)
                l.bias.push_back(normal(random));
            const int n_pairs = (outputs + 1) / 2;
            planes plain(inputs, n, reach), pairs((inputs + 1) / 2, n, reach), more(outputs, n),
                more_pairs(n_pairs, n), mask(1, n), sums(outputs, n), packed(n_pairs, n);
            for (int p = 0; p < n; p++) {
                if (p % stride < stride - 1)
                    reinterpret_cast<int32_t*>(mask[0])[p] = -1;
                for (int i = 0; i < inputs; i++)
                    plain[i][p] = p % stride < stride - 1 ? normal(random) : 0.0f;
                for (int o = 0; o < outputs; o++)
                    more[o][p] = normal(random);
            }
            const auto& kernel = *pusch_pairs();
            kernel.pack(plain[0], plain.pitch(), inputs, n, pairs[0], pairs.pitch());
            kernel.pack(more[0], more.pitch(), outputs, n, more_pairs[0], more_pairs.pitch());
            const plane_sum sum(l, pairs.pitch(), stride, 2);
            const auto* all = reinterpret_cast<const int32_t*>(mask[0]);
            kernel.sum(sum.job(pairs[0], sums[0], sums.pitch(), n, all));
            auto job = sum.job(pairs[0], packed[0], packed.pitch(), n, all);
            job.more = more_pairs[0];
            job.more_pitch = more_pairs.pitch();
            job.relu = true;
            kernel.sum_to_pairs(job);
            double worst = 0.0, worst_packed = 0.0;
            for (int o = 0; o < outputs; o++)
                for (int p = 0; p < n; p++) {
                    double expected = l.bias[o];
                    for (int i = 0; i < inputs; i++)
                        for (int at = 0; at < 9; at++)
                            expected += double(rounded(l.weights[(o * inputs + i) * 9 + at])) *
                                        rounded(plain[i][p + (at / 3 - 1) * stride + at % 3 - 1]);
                    const bool there = p % stride < stride - 1;
                    worst = std::max(worst, std::abs(sums[o][p] - (there ? expected : 0.0)));
                    expected = there ? std::max(expected + rounded(more[o][p]), 0.0) : 0.0;
                    uint32_t pair;
                    std::memcpy(&pair, &packed[o / 2][p], sizeof(pair));
                    pair = o % 2 ? pair & 0xffff0000 : pair << 16;
                    float found;
                    std::memcpy(&found, &pair, sizeof(pair));
                    worst_packed =
                        std::max(worst_packed, std::abs(found - expected) / (0.1 + expected));
                }
            BOOST_TEST(worst < 1e-4);
            BOOST_TEST(worst_packed < 1.0 / 256);
            if (outputs % 2) { // beside it, nothing
                uint32_t pair;
                std::memcpy(&pair, &packed[n_pairs - 1][0], sizeof(pair));
                BOOST_TEST(pair >> 16 == 0u);
            }
        }
}

namespace {

void check_llrs_are_nearly_pytorchs(const packed_kernel& kernel)
{
    const auto net = make_pusch_net(numbers(), weights());
    for (int number = 0; number < 6; number++) {
        const slot s(number);
        pusch_receiver receiver(s.layout, s.n_rx, net, pusch_receiver::best(), &kernel);
        const auto& expected = s.values("llr");
        std::vector<float> llr(expected.size(), NAN);
        receiver.receive(s.values("y").data(), s.values("p").data(), llr.data());
        const double off = apart(data_llrs(s.layout, llr), data_llrs(s.layout, expected));
        BOOST_TEST(off < 0.05);
        BOOST_TEST(off > 1e-6); // they are not float32's
    }
}

} // namespace

BOOST_AUTO_TEST_CASE(llrs_in_bfloat16_are_nearly_pytorchs,
                     *boost::unit_test::precondition(has_pairs))
{
    check_llrs_are_nearly_pytorchs(*pusch_pairs());
}

namespace {

//! Of whole numbers that int8 holds, times powers of two, sums are exact.
void check_sums_of_quads(const packed_kernel& kernel)
{
    std::minstd_rand random(1);
    const auto whole = [&random](bool extreme) {
        return extreme ? (random() % 2 ? 127.0f : -127.0f) : float(int(random() % 255) - 127);
    };
    constexpr int n = 150, stride = 10, reach = stride + 1; // rows with an end that is masked
    for (const int inputs : { 1, 4, 7, 9 })
        for (const int outputs : { 1, 2, 7, 12, 13 })
            for (const bool extreme : { false, true })
                for (const bool positive : { false, true }) {
                    const auto of_sign = [=](float x) { return positive ? std::abs(x) : x; };
                    const auto step_of = [](int output) { return std::ldexp(1.0f, -(output % 4)); };
                    layer l{ outputs, inputs, 3, 3, {}, {} };
                    for (int o = 0; o < outputs; o++) {
                        for (int i = 0; i < inputs * 9; i++)
                            l.weights.push_back(i % 5 ? step_of(o) * whole(extreme) : 0.0f);
                        l.weights[o * inputs * 9] = step_of(o) * 127;
                        l.bias.push_back(whole(false));
                    }
                    planes plain(inputs, n, reach), quads((inputs + 3) / 4, n, reach),
                        more(outputs, n), mask(1, n), sums(outputs, n);
                    auto* const all = reinterpret_cast<int32_t*>(mask[0]);
                    for (int p = 0; p < n; p++) {
                        all[p] = p % stride < stride - 1 ? -1 : 0;
                        for (int i = 0; i < inputs; i++)
                            plain[i][p] = all[p] ? 0.25f * of_sign(whole(extreme)) : 0.0f;
                        for (int o = 0; o < outputs; o++)
                            more[o][p] = whole(false);
                    }
                    plain[0][0] = 0.25f * of_sign(-127);
                    const plane_sum sum(l, quads.pitch(), stride, 4);
                    auto job = sum.job(quads[0], sums[0], sums.pitch(), n, all);
                    job.step =
                        kernel.pack(plain[0], plain.pitch(), inputs, n, quads[0], quads.pitch());
                    BOOST_TEST(job.step == 0.25f);
                    job.positive = positive;
                    job.more = more[0];
                    job.more_pitch = more.pitch();
                    job.relu = true;
                    kernel.sum(job);
                    int wrong = 0;
                    for (int o = 0; o < outputs; o++)
                        for (int p = 0; p < n; p++) {
                            float expected = l.bias[o] + more[o][p];
                            for (int i = 0; i < inputs; i++)
                                for (int at = 0; at < 9; at++)
                                    expected += l.weights[(o * inputs + i) * 9 + at] *
                                                plain[i][p + (at / 3 - 1) * stride + at % 3 - 1];
                            wrong += sums[o][p] != (all[p] ? std::max(expected, 0.0f) : 0.0f);
                        }
                    BOOST_TEST(wrong == 0);
                }
}

} // namespace

BOOST_AUTO_TEST_CASE(int8_on_every_processor)
{
    check_sums_of_quads(*pusch_quads().back());
    check_llrs_are_nearly_pytorchs(*pusch_quads().back());
}

BOOST_AUTO_TEST_CASE(int8_with_avx2, *has(pusch_quads, "AVX2"))
{
    check_sums_of_quads(*named(pusch_quads, "AVX2"));
    check_llrs_are_nearly_pytorchs(*named(pusch_quads, "AVX2"));
}

BOOST_AUTO_TEST_CASE(int8_with_avx512_vnni, *has(pusch_quads, "AVX-512 VNNI"))
{
    check_sums_of_quads(*named(pusch_quads, "AVX-512 VNNI"));
    check_llrs_are_nearly_pytorchs(*named(pusch_quads, "AVX-512 VNNI"));
}

BOOST_AUTO_TEST_CASE(quads_of_nothing_are_nothing)
{
    planes plain(5, 20), quads(2, 20);
    for (const packed_kernel* kernel : pusch_quads()) {
        const float step = kernel->pack(plain[0], plain.pitch(), 5, 20, quads[0], quads.pitch());
        BOOST_TEST((step > 0.0f && step < 1e-20f));
        BOOST_TEST((std::all_of(
            quads[0], quads[0] + quads.pitch() + 20, [](float x) { return x == 0.0f; })));
    }
}

BOOST_AUTO_TEST_CASE(weights_of_another_net_are_refused)
{
    auto wrong = weights();
    wrong.erase("rounds.1.back.weight");
    check_raises<std::runtime_error>([&] { make_pusch_net(numbers(), wrong); },
                                     "the net's weights lack rounds.1.back.weight");
    wrong = weights();
    wrong["more"] = {};
    check_raises<std::runtime_error>([&] { make_pusch_net(numbers(), wrong); },
                                     "hold more, which it does not know");
    auto more = numbers();
    more.channels++;
    check_raises<std::runtime_error>(
        [&] { make_pusch_net(more, weights()); },
        "the net's rounds.0.net.net.0.weight must be [8, 32, 1, 1], is [7, 32, 1, 1]");
}

BOOST_AUTO_TEST_CASE(slots_that_it_cannot_receive_are_refused)
{
    const auto net = make_pusch_net(numbers(), weights());
    auto layout = slot(0).layout;
    check_raises<std::invalid_argument>([&] { pusch_receiver(layout, 5, net); },
                                        "n_rx must be 1 to 4, got 5");
    layout.dmrs = { 3, 9 };
    check_raises<std::runtime_error>([&] { pusch_receiver(layout, 2, net); },
                                     "the net does not know DMRS on symbols 3, 9");
}

BOOST_AUTO_TEST_SUITE_END()
