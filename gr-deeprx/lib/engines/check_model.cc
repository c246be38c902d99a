/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "engine.h"

#include <gnuradio/deeprx/check_model.h>

namespace gr::deeprx {

void check_model(const std::string& bytes,
                 int n_prb,
                 int n_rx,
                 const std::string& modulation,
                 const std::vector<int>& dmrs,
                 const std::string& device)
{
    const slot_geometry slot(n_prb, modulation, dmrs, /*cell_id=*/1, /*slot_number=*/0);
    check_torchscript_model(bytes, slot, n_rx, device);
}

} // namespace gr::deeprx
