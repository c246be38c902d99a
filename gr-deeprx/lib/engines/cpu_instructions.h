/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <string>

namespace gr::deeprx {

//! How this machine's processor multiplies at a precision.
struct cpu_instructions {
    std::string name; // "AMX", "AVX-512 BF16", ...; where it has none for it: what emulates them
    bool native;      // made for this precision
};

//! Feature flag of this machine's processor, as /proc/cpuinfo spells it.
bool cpu_has(const std::string& flag);

//! \param precision "float32", "bfloat16" or "int8"; another is looked at as float32
cpu_instructions cpu_instructions_for(const std::string& precision);

} // namespace gr::deeprx
