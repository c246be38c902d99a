/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "background_worker.h"
#include "cpu_instructions.h"
#include "engine.h"
#include "openvino_engine.h"
#include "parameters.h"
#include "trusted.h"

#include <gnuradio/deeprx/engines.h>

namespace gr::deeprx {

std::vector<std::string> engines()
{
    std::vector<std::string> names;
    if (!torchscript_version().empty())
        names.push_back("TorchScript " + torchscript_version());
    if (!openvino_version().empty())
        names.push_back("OpenVINO " + openvino_version());
    names.push_back("native");
    return names;
}

std::string instructions(const std::string& precision)
{
    const auto best = cpu_instructions_for(precision);
    return best.native ? best.name : "";
}

void check_model(int sealed,
                 const slot_config& slot,
                 int n_rx,
                 const std::string& device,
                 const std::vector<std::string>& trust)
{
    check_model_bytes(model_bytes(sealed),
                      { slot_geometry(slot), n_rx, device, 1, 1, "auto", hashes_of(trust) });
}

void check_limits(const jail_limits& limits)
{
    for (const double limit : { limits.memory, limits.load_s, limits.batch_s, limits.most_batch_s })
        expect(limit > 0.0 && limit < 1e15, // below what clocks and the kernel count in
               "limits of a jail must be above 0 and below 1e15",
               std::to_string(limit));
}

void set_jail_limits(const jail_limits& limits)
{
    check_limits(limits);
    usual_jail_limits() = limits;
}

void watch_jails(void (*watch)()) { jail_watch() = watch; }

void wait_for_loads() { wait_for_last_jobs(); }

} // namespace gr::deeprx
