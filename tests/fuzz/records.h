/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "fuzz.h"
#include "zip_archive.h"

#include <map>
#include <string>
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
    const size_t changed = (seed / 4) % records.size();
    std::map<std::string, std::string> held;
    std::map<std::string, std::string_view> written;
    for (size_t i = 0; i < records.size(); i++) {
        std::string inflated;
        auto& bytes = held[records[i].name];
        accepts([&] { bytes = contents(records[i], inflated); });
        if (i == changed) {
            const size_t size = bytes.size();
            bytes.resize(size + 256);
            bytes.resize(
                LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), size, bytes.size()));
        }
        written[records[i].name] = bytes;
    }
    const std::string file = stored_zip(written).text();
    if (file.size() > max_size)
        return LLVMFuzzerMutate(data, size, max_size);
    std::copy(file.begin(), file.end(), data);
    return file.size();
}

} // namespace fuzz
