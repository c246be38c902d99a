/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_archive.h"
#include "records.h"

using namespace gr::deeprx;

//! What is accepted is accepted again as LibTorch gets it, and looks the same there.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    std::string written, again;
    const bool accepted = fuzz::accepts([&] {
        const model_archive archive(std::string(fuzz::text(data, size)));
        written = archive.rewritten().text();
    });
    if (accepted) {
        fuzz::expect(fuzz::accepts([&] {
                         const model_archive archive(written);
                         again = archive.rewritten().text();
                     }),
                     "what was written to be accepted");
        fuzz::expect(again == written, "the same once more");
    }
    return 0;
}

extern "C" size_t
LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed)
{
    return fuzz::mutate_records(data, size, max_size, seed);
}
