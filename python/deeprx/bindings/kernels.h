/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

//! The one for these instructions; none given: the best.
//! \throws std::invalid_argument if this processor has no such one
template <class kernel>
const kernel& kernel_of(const std::vector<const kernel*>& kernels,
                        const kernel& best,
                        const std::optional<std::string>& instructions)
{
    if (!instructions)
        return best;
    std::string names;
    for (const kernel* candidate : kernels) {
        if (*instructions == candidate->instructions)
            return *candidate;
        names += (names.empty() ? "" : ", ") + std::string(candidate->instructions);
    }
    throw std::invalid_argument("instructions must be one of " + names + ", got '" + *instructions +
                                "'");
}
