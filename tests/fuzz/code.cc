/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "code_check.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    fuzz::accepts([&] { gr::deeprx::check_code(fuzz::text(data, size)); });
    return 0;
}
