/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <pybind11/pybind11.h>

//! Adds unitary_fft and slot_cutter to the module.
void bind_front_end(pybind11::module& m);

//! Adds tdl_fading and tdl_fader to the module.
void bind_tdl(pybind11::module& m);
