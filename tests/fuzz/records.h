/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "fuzz.h"
#include "zip_archive.h"

#include <vector>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace fuzz {

/*
 * Bytes of a model file, or in three of four cases of one record, whose checksum is made to fit:
 * else no change would get past that.
 */
inline size_t mutate_records(uint8_t* data, size_t size, size_t max_size, unsigned int seed)
{
    using namespace gr::deeprx;
    std::vector<zip_record> records;
    if (seed % 4)
        accepts([&] { records = read_zip(text(data, size)); });
    if (records.empty())
        return LLVMFuzzerMutate(data, size, max_size);
    zip_writer writer;
    const size_t changed = (seed / 4) % records.size();
    for (size_t i = 0; i < records.size(); i++) {
        std::string inflated;
        std::vector<uint8_t> bytes;
        accepts([&] {
            const auto held = contents(records[i], inflated);
            bytes.assign(held.begin(), held.end());
        });
        if (i == changed) {
            const size_t held = bytes.size();
            bytes.resize(held + 256);
            bytes.resize(LLVMFuzzerMutate(bytes.data(), held, bytes.size()));
        }
        writer.add(records[i].name, text(bytes.data(), bytes.size()));
    }
    const std::string file = std::move(writer).finish();
    if (file.size() > max_size)
        return LLVMFuzzerMutate(data, size, max_size);
    std::copy(file.begin(), file.end(), data);
    return file.size();
}

} // namespace fuzz
