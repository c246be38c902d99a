/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "bindings.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using gr::deeprx::slot_config;
using gr::deeprx::slot_user;

slot_config to_slot_config(const py::object& slot)
{
    slot_config c;
    if (slot.is_none())
        return c;
    if (!py::isinstance(slot, py::module::import("deeprx_common.slot").attr("SlotConfig")))
        throw py::type_error(
            py::str("slot must be a SlotConfig, got {:.80}").format(py::str(py::repr(slot))));
    const auto number = [](const py::handle& object, const char* name, int none) {
        const py::object value = object.attr(name);
        return value.is_none() ? none : value.cast<int>();
    };
    c.n_prb = number(slot, "n_prb", 0);
    c.first_prb = number(slot, "first_prb", 0);
    c.n_symbols = number(slot, "n_symbols", 0);
    c.dmrs = slot.attr("dmrs").cast<std::vector<int>>();
    c.cdm_groups = number(slot, "cdm_groups", 0);
    c.dmrs_n_id = number(slot, "dmrs_n_id", 0);
    c.n_scid = number(slot, "n_scid", 0);
    c.limited_buffer = number(slot, "limited_buffer", 0);
    c.carrier_prb = number(slot, "carrier_prb", 0);
    c.scs_khz = number(slot, "scs_khz", 0);
    c.fft_size = number(slot, "fft_size", 0);
    c.slot_number = number(slot, "slot_number", -1);
    c.users.clear();
    for (const py::handle from : slot.attr("users")) {
        slot_user user;
        user.modulation = from.attr("modulation").cast<std::string>();
        const py::object rate = from.attr("code_rate");
        user.code_rate = rate.is_none() ? 0.0 : rate.cast<double>();
        user.tbs = number(from, "tbs", 0);
        user.rnti = number(from, "rnti", 0);
        user.n_id = number(from, "n_id", 0);
        user.port = number(from, "port", 0);
        c.users.push_back(user);
    }
    return c;
}
