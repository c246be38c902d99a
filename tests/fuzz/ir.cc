/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "ir_vetting.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    fuzz::accepts([&] { gr::deeprx::vet_ir(fuzz::text(data, size), 4096); });
    return 0;
}
