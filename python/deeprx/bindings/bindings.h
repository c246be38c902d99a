/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/slot_config.h>

#include <pybind11/pybind11.h>

//! Of a deeprx_common.slot.SlotConfig; None: the slot with its defaults.
//! \throws py::type_error if it is something else
gr::deeprx::slot_config to_slot_config(const pybind11::object& slot);

//! Of an argument that may be anything.
//! \throws ValueError with its name if it is no whole number
int to_whole(const char* name, const pybind11::object& value);

//! Adds slot_gate, slot_cutter, symbol_ifft and unitary_fft to the module.
void bind_slots(pybind11::module& m);

//! Adds block_failure and system_handler to the module.
void bind_failures(pybind11::module& m);

//! Adds tdl_fading and tdl_fader to the module.
void bind_tdl(pybind11::module& m);

//! Adds transport blocks and their decoder to the module.
void bind_transport_blocks(pybind11::module& m);

//! Adds the flowgraph blocks of transport blocks to the module.
void bind_tb_blocks(pybind11::module& m);

//! Adds classical receivers to the module.
void bind_classical(pybind11::module& m);
