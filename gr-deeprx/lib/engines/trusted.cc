/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "trusted.h"
#include "jail_process.h"
#include "model_archive.h"
#include "shipped_models.h"

#include <algorithm>
#include <stdexcept>

namespace gr::deeprx {

namespace {

//! In any case of letters; empty: it is another text.
std::string sha256_in(std::string text)
{
    for (char& letter : text)
        letter = letter >= 'A' && letter <= 'F' ? letter - 'A' + 'a' : letter;
    const bool is = text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
    return is ? text : "";
}

} // namespace

bool is_trusted(const std::string& sha256, const std::vector<std::string>& trust)
{
    const auto among = [&sha256](const auto& list) {
        return std::find(std::begin(list), std::end(list), sha256) != std::end(list);
    };
    return among(shipped_models) || among(trust);
}

bool runs_here(const model_archive& archive, const engine_parameters& p)
{
    expect_same_process();
    prepare_for_jails();
    if (is_trusted(archive.sha256(), p.trust))
        return true;
    if (p.device != "cpu")
        throw std::runtime_error(
            "is not trusted, and on a GPU there is no jail: device=\"cpu\" has "
            "one, --trust (the block's trust) does without");
    return false;
}

std::vector<std::string> hashes_of(const std::vector<std::string>& files)
{
    std::vector<std::string> hashes;
    for (const auto& file : files) {
        if (const auto hash = sha256_in(file); !hash.empty()) {
            hashes.push_back(hash);
            continue;
        }
        try {
            hashes.push_back(sha256(read_model_file(file).view()));
        } catch (const std::exception& e) {
            throw std::runtime_error("trusted file '" + file + "': " + e.what());
        }
    }
    return hashes;
}

} // namespace gr::deeprx
