/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <optional>

/*!
 * \brief Clock of the core this thread runs on, in Hz, as it is now.
 *
 * From the time that a chain of dependent 32-bit multiplications takes, each of which has a latency
 * of 3 cycles on every x86-64 core of Intel since Nehalem and of AMD since K8 (Agner Fog,
 * Instruction tables): unlike /proc/cpuinfo and cpufreq it holds in a virtual machine, too.
 * About 0.1 ms. None on other processors.
 */
std::optional<double> core_clock_hz();
