/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "model_archive.h"
#include "zip_archive.h"

#include <vector>

using namespace gr::deeprx;

//! What is accepted is accepted again as LibTorch gets it, and looks the same there.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    std::string written, again;
    const bool accepted = fuzz::accepts([&] {
        const model_archive archive(std::string(fuzz::text(data, size)));
        written = archive.rewritten();
    });
    if (accepted) {
        fuzz::expect(fuzz::accepts([&] {
                         const model_archive archive(written);
                         again = archive.rewritten();
                     }),
                     "what was written to be accepted");
        fuzz::expect(again == written, "the same once more");
    }
    return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

/*
 * Bytes of the file, or in three of four cases of one record, whose checksum is made to fit: else
 * no change would get past that.
 */
extern "C" size_t
LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed)
{
    std::vector<zip_record> records;
    if (seed % 4)
        fuzz::accepts([&] { records = read_zip(fuzz::text(data, size)); });
    if (records.empty())
        return LLVMFuzzerMutate(data, size, max_size);
    zip_writer writer;
    const size_t changed = (seed / 4) % records.size();
    for (size_t i = 0; i < records.size(); i++) {
        std::string inflated;
        std::vector<uint8_t> bytes;
        fuzz::accepts([&] {
            const auto held = contents(records[i], inflated);
            bytes.assign(held.begin(), held.end());
        });
        if (i == changed) {
            const size_t held = bytes.size();
            bytes.resize(held + 256);
            bytes.resize(LLVMFuzzerMutate(bytes.data(), held, bytes.size()));
        }
        writer.add(records[i].name, fuzz::text(bytes.data(), bytes.size()));
    }
    const std::string file = std::move(writer).finish();
    if (file.size() > max_size)
        return LLVMFuzzerMutate(data, size, max_size);
    std::copy(file.begin(), file.end(), data);
    return file.size();
}
