/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "slot_geometry.h"

#include <string>
#include <vector>

//! A slot of one user in a carrier of its own.
inline gr::deeprx::slot_geometry slot_of(int n_prb,
                                         const std::string& modulation,
                                         const std::vector<int>& dmrs = { 2, 11 },
                                         int slot_number = 0)
{
    gr::deeprx::slot_config config;
    config.n_prb = n_prb;
    config.users[0].modulation = modulation;
    config.dmrs = dmrs;
    config.slot_number = slot_number;
    return gr::deeprx::slot_geometry(config);
}
