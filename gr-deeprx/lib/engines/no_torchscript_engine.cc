/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "data_form.h"
#include "parameters.h"
#include "torchscript_engine.h"

#include <time.h>

namespace gr::deeprx {

namespace {

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error(what + ", and this gr-deeprx was built without PyTorch: deeprx-pusch, "
                                    "deeprx-pusch-small, ls-lmmse, sure-lmmse and gnb run without "
                                    "it; the others need a build with -DDEEPRX_TORCH=ON");
}

} // namespace

void expect_device(const std::string& device)
{
    if (cuda_index(device) >= 0)
        refuse("device \"" + device + "\" is LibTorch's");
}

std::unique_ptr<engine> make_torchscript_engine(const model_archive& archive,
                                                const engine_parameters& p)
{
    const auto obstacle = data_form_obstacle(archive, p);
    refuse(obstacle.empty() ? "engine=\"" + p.engine + "\" was asked for"
                            : "runs as a program only (native: " + obstacle + ")");
}

void check_torchscript(const model_archive&, const engine_parameters&)
{
    refuse("its program was asked for");
}

std::string torchscript_version() { return ""; }

void set_inference_threads(int) {} // native has the one that calls it

uint64_t inference_cpu_ns()
{
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return uint64_t{ 1000000000 } * time.tv_sec + time.tv_nsec;
}

} // namespace gr::deeprx
