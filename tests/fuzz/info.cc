/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "../cpp/slot_of.h"
#include "fuzz.h"
#include "json_check.h"
#include "model_info.h"

//! deeprx.json, as a model file's reader and its engine see it.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    static const auto slot = slot_of(26, "16QAM", { 2, 11 }, 0);
    fuzz::accepts([&] {
        gr::deeprx::check_json(fuzz::text(data, size));
        const auto info = gr::deeprx::parse_model_info(std::string(fuzz::text(data, size)));
        info.flop_per_slot(26, 2);
        check_model_fits(info, slot, 2, false);
    });
    return 0;
}
