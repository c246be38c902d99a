/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "engine.h"
#include "printable.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <sstream>
#include <unistd.h>

namespace gr::deeprx {

void expect_same_process()
{
    static const pid_t first = getpid();
    if (getpid() != first)
        throw std::runtime_error(
            "process " + std::to_string(getpid()) + " was forked from process " +
            std::to_string(first) +
            " after a model had been loaded there, and the inference libraries' threads do not "
            "survive fork(): start it anew (multiprocessing's \"spawn\"), or load models only "
            "behind the fork");
}

jail_limits& usual_jail_limits()
{
    static jail_limits limits;
    return limits;
}

std::atomic<void (*)()>& jail_watch()
{
    static std::atomic<void (*)()> watch{ nullptr };
    return watch;
}

leave_asked& this_thread_leaves()
{
    static thread_local leave_asked asked = nullptr;
    return asked;
}

int llr_bits(const slot_geometry& slot)
{
    return *std::max_element(slot.bits().begin(), slot.bits().end());
}

std::string one_line(const std::exception& e)
{
    std::string text = e.what();
    text.erase(text.find_last_not_of(" \n") + 1);
    text.erase(0, text.find_first_not_of(" \n"));
    // The TorchScript interpreter puts the cause behind its call stack, which ends with a few lines
    // of code, and behind its type: "RuntimeError: ".
    if (const auto stack = text.rfind("<--- HERE"); stack != std::string::npos) {
        std::istringstream lines(text.substr(stack));
        for (std::string line; std::getline(lines, line);)
            if (const auto type = line.find(": "); type < line.find(' '))
                return printable(line.substr(type + 2));
    }
    return printable(text.substr(0, text.find('\n')));
}

void naming_file(const std::string& path, const std::function<void()>& act)
try {
    act();
} catch (const std::invalid_argument&) {
    throw;
} catch (const jail_lost& e) {
    throw jail_lost("model file '" + path + "': " + e.what());
} catch (const std::exception& e) {
    throw std::runtime_error("model file '" + path + "': " + one_line(e));
}

void write_noise(const engine_parameters& p, float* grids, float* pilots)
{
    std::minstd_rand bits;
    std::normal_distribution<float> noise;
    const auto& of_slot = p.slot.pilots(0);
    std::generate_n(grids, p.max_batch * p.n_rx * p.slot.n_re() * 2, [&] { return noise(bits); });
    for (int slot = 0; slot < p.max_batch; slot++)
        pilots = std::copy(of_slot.begin(), of_slot.end(), pilots);
}

void engine::prepare(int batch)
{
    infer(batch); // the executor profiles
    infer(batch); // and compiles
}

std::vector<double> engine::warm_up(const std::vector<int>& batch_sizes)
{
    expect_same_process();
    using clock = std::chrono::steady_clock;
    std::vector<double> seconds;
    for (const int batch : batch_sizes) {
        prepare(batch);
        // The fastest of some: what else runs must not make a size look slow.
        double best = HUGE_VAL;
        double total = 0.0;
        for (int run = 0; run < 2 || (run < 10 && total < 20e-3); run++) {
            const auto start = clock::now();
            infer(batch);
            const double took = std::chrono::duration<double>(clock::now() - start).count();
            best = std::min(best, took);
            total += took;
        }
        seconds.push_back(best);
    }
    return seconds;
}

} // namespace gr::deeprx
