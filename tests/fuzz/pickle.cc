/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "pickle_check.h"

//! With storages of the names 0 to 9, of some bytes each.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    fuzz::accepts([&] {
        gr::deeprx::check_pickle(fuzz::text(data, size),
                                 [](const std::string& name) -> std::optional<size_t> {
                                     if (name.size() == 1 && name[0] >= '0' && name[0] <= '9')
                                         return size_t(1) << (name[0] - '0');
                                     return std::nullopt;
                                 });
    });
    return 0;
}
