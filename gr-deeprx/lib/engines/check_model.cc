/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "jailed_engine.h"
#include "torchscript_engine.h"
#include "trusted.h"

namespace gr::deeprx {

void check_model_bytes(const model_bytes& bytes, const engine_parameters& p)
try {
    expect_device(p.device);
    const model_archive archive(bytes);
    if (torchscript_version().empty() || runs_here(archive, p))
        check_torchscript(archive, p);
    else
        check_in_jail(archive, p);
} catch (const std::invalid_argument&) {
    throw;
} catch (const jail_lost&) {
    throw;
} catch (const std::exception& e) {
    throw std::runtime_error(one_line(e));
}

} // namespace gr::deeprx
