/* SPDX-License-Identifier: GPL-3.0-or-later */

// Runs a target of fuzz/ over files, without libFuzzer: what it once found, in every test run.

#include "fuzz/fuzz.h"

#include <filesystem>
#include <fstream>
#include <iterator>

extern "C" size_t LLVMFuzzerMutate(uint8_t*, size_t size, size_t) { return size; }

int main(int argc, char** argv)
{
    int read = 0;
    for (int i = 1; i < argc; i++)
        for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
            std::ifstream file(entry.path(), std::ios::binary);
            const std::string data{ std::istreambuf_iterator<char>(file), {} };
            std::fprintf(stderr, "%s\n", entry.path().c_str());
            LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(data.data()), data.size());
            read++;
        }
    fuzz::expect(read > 0, "a file");
}
