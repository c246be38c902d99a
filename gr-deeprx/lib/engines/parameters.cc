/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "parameters.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>

namespace gr::deeprx {

namespace {

std::mutex claims_mutex;
int claims = 0;
int claimed_threads = 0;

} // namespace

void expect(bool fine, const std::string& expected, const std::string& actual)
{
    if (!fine)
        throw std::invalid_argument(expected + ", got " + actual);
}

int cuda_index(const std::string& device)
{
    if (device == "cpu")
        return -1;
    if (device == "cuda")
        return 0;
    const bool is_index =
        device.rfind("cuda:", 0) == 0 && device.size() > 5 && device.size() < 9 &&
        std::all_of(device.begin() + 5, device.end(), [](char c) { return c >= '0' && c <= '9'; });
    expect(is_index, "device must be \"cpu\", \"cuda\" or \"cuda:<n>\"", '"' + device + '"');
    return std::stoi(device.substr(5));
}

void check_range(const engine_parameters& p)
{
    expect(p.n_rx >= 1 && p.n_rx <= 4, "n_rx must be 1 to 4", std::to_string(p.n_rx));
    expect(p.threads >= 1, "threads must be 1 or more", std::to_string(p.threads));
    expect(p.max_batch >= 1 && p.max_batch <= 256,
           "max_batch must be 1 to 256",
           std::to_string(p.max_batch));
    expect(p.engine == "auto" || p.engine == "native" || p.engine == "torchscript" ||
               p.engine == "openvino",
           "engine must be \"auto\", \"native\", \"torchscript\" or \"openvino\"",
           '"' + p.engine + '"');
}

thread_claim::thread_claim(int threads)
{
    std::lock_guard<std::mutex> lock(claims_mutex);
    expect(claims == 0 || threads == claimed_threads,
           "threads is one number for the process: another receiver in it has threads=" +
               std::to_string(claimed_threads),
           std::to_string(threads));
    claimed_threads = threads;
    claims++;
}

thread_claim::~thread_claim()
{
    std::lock_guard<std::mutex> lock(claims_mutex);
    claims--;
}

} // namespace gr::deeprx
