/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "cpu_instructions.h"
#include "avx2_only.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

namespace gr::deeprx {

namespace {

using instructions = std::vector<std::pair<const char*, const char*>>; // flag, name; best first

const instructions float32{
    { "avx512f", "AVX-512" }, { "avx2", "AVX2" }, { "avx", "AVX" }, { "asimd", "NEON" }
};
const char* const newer_than_avx2[]{ "avx10", "avx512", "avx_", "amx_" }; // how flags begin
const std::map<std::string, instructions> reduced{
    { "bfloat16",
      { { "amx_bf16", "AMX" }, { "avx512_bf16", "AVX-512 BF16" }, { "bf16", "NEON BF16" } } },
    { "int8",
      { { "amx_int8", "AMX" },
        { "avx512_vnni", "AVX-512 VNNI" },
        { "avx_vnni", "AVX-VNNI" },
        { "i8mm", "NEON I8MM" },
        { "asimddp", "NEON dot product" } } },
};

const char* best_of(const instructions& known)
{
    for (const auto& [flag, name] : known)
        if (cpu_has(flag))
            return name;
    return nullptr;
}

bool is_newer_than_avx2(const std::string& flag)
{
    return std::any_of(std::begin(newer_than_avx2),
                       std::end(newer_than_avx2),
                       [&](const std::string& start) { return flag.rfind(start, 0) == 0; });
}

std::set<std::string> read_flags()
{
    std::set<std::string> flags;
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);) {
        if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0)
            continue;
        std::istringstream words(line.substr(line.find(':') + 1));
        for (std::string word; words >> word;)
            if (!avx2_only() || !is_newer_than_avx2(word))
                flags.insert(word);
        break;
    }
    return flags;
}

} // namespace

bool cpu_has(const std::string& flag)
{
    static const std::set<std::string> flags = read_flags();
    return flags.count(flag);
}

cpu_instructions cpu_instructions_for(const std::string& precision)
{
    const char* plain = best_of(float32);
    const auto entry = reduced.find(precision);
    const char* native = entry == reduced.end() ? plain : best_of(entry->second);
    if (native || entry == reduced.end())
        return { native ? native : "scalar", true };
    return { plain ? plain : "scalar", false };
}

} // namespace gr::deeprx
