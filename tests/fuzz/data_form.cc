/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "data_form.h"
#include "../cpp/slot_of.h"
#include "model_archive.h"
#include "records.h"

#include <algorithm>

using namespace gr::deeprx;

//! A net whose weights are data runs in the receiver's process: all of it, up to a slot's LLRs.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    static const engine_parameters parameters{
        slot_of(2, "16QAM", { 2, 7, 11 }, 0), 2, "cpu", 1, 1, "native"
    };
    fuzz::accepts([&] {
        const model_archive archive(std::string(fuzz::text(data, size)));
        if (!data_form_obstacle(archive, parameters).empty())
            return;
        const auto engine = make_data_form_engine(archive, parameters);
        engine->infer(1);
        engine->estimate(1);
    });
    return 0;
}

extern "C" size_t
LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz::mutate_records(data, size, max_size, seed);
}
