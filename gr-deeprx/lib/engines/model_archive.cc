/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_archive.h"
#include "code_check.h"
#include "ir_vetting.h"
#include "json_check.h"
#include "model_rules.h"
#include "pickle_check.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace gr::deeprx {

namespace {

bool starts_with(const std::string& text, const std::string& prefix)
{
    return text.rfind(prefix, 0) == 0;
}

bool ends_with(const std::string& text, const std::string& suffix)
{
    return text.size() >= suffix.size() &&
           text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

bool is_code(const std::string& name) { return starts_with(name, "code/"); }

bool is_ir(const std::string& name)
{
    return starts_with(name, "extra/openvino/") && ends_with(name, ".xml");
}

//! What only debuggers and LibTorch's own tools read.
bool is_left_out(const std::string& name)
{
    return name[0] == '.' || (is_code(name) && ends_with(name, ".debug_pkl"));
}

bool is_storage(const std::string& name)
{
    for (const std::string folder : { "data/", "constants/" })
        if (starts_with(name, folder) && name.size() > folder.size())
            return name.find_first_not_of("0123456789", folder.size()) == std::string::npos;
    return false;
}

//! Records that torch.jit.save writes; it deflates code.
void expect_record(const zip_record& record)
{
    const auto& name = record.name;
    const bool one_of_few =
        name == "version" || name == "byteorder" || name == "constants.pkl" || name == "data.pkl";
    const bool code = is_code(name) && (ends_with(name, ".py") || ends_with(name, ".debug_pkl"));
    if (!one_of_few && !code && !is_storage(name) && !starts_with(name, "extra/") && name[0] != '.')
        throw std::runtime_error("refused, the record " + name + " is not allowed in a model");
    if (record.deflated && !code)
        throw std::runtime_error("refused, the record " + name +
                                 " is compressed, as only code is "
                                 "allowed to be in a model");
}

void expect_size(const std::string& what, size_t size, size_t allowed)
{
    if (size > allowed)
        throw std::runtime_error("refused, " + what + " of " + std::to_string(size) +
                                 " bytes is not allowed in a model, at most " +
                                 std::to_string(allowed));
}

void expect_torchscript(const std::vector<zip_record>& records)
{
    for (const auto name : { "constants.pkl", "data.pkl", "version" })
        if (std::none_of(records.begin(), records.end(), [&](const zip_record& record) {
                return record.name == name;
            }))
            throw std::runtime_error("is not a TorchScript archive (torch.jit.save makes one, "
                                     "torch.save does not)");
}

void check_version(const std::map<std::string, std::string_view>& records)
{
    auto version = records.at("version");
    if (!version.empty() && version.back() == '\n')
        version.remove_suffix(1);
    if (version.empty() || version.size() > 3 ||
        version.find_first_not_of("0123456789") != std::string_view::npos)
        throw std::runtime_error("is not a TorchScript archive: its version is no number");
    const auto order = records.find("byteorder");
    if (order != records.end() && order->second != "little")
        throw std::runtime_error("refused, an order of bytes other than little is not allowed in a "
                                 "model");
}

//! Of all records of a kind, before any is inflated or parsed.
void check_sizes(const std::vector<zip_record>& records)
{
    size_t code = 0, xml = 0;
    for (const auto& record : records) {
        code += is_code(record.name) ? record.size : 0;
        xml += is_ir(record.name) ? record.size : 0;
    }
    expect_size("code", code, rules().code_bytes);
    expect_size("XML", xml, rules().all_xml_bytes);
}

} // namespace

model_archive::model_archive(model_bytes bytes)
    : d_bytes(std::move(bytes)), d_sha256(gr::deeprx::sha256(d_bytes.view()))
{
    const auto records = read_zip(d_bytes.view());
    expect_torchscript(records);
    check_sizes(records);
    for (const auto& record : records) {
        expect_record(record);
        d_inflated.emplace_back();
        const auto data = contents(record, d_inflated.back());
        if (is_left_out(record.name) || !record.deflated)
            d_inflated.pop_back();
        if (!is_left_out(record.name))
            d_records[record.name] = data;
    }
    check_version(d_records);
    if (!extra_file("deeprx.json"))
        throw std::runtime_error("has no deeprx.json (torch.jit.save with _extra_files adds it)");
    check_json(deeprx_json());

    for (const std::string folder : { "constants", "data" }) {
        const auto pickle = d_records.at(folder + ".pkl");
        expect_size("a pickle", pickle.size(), rules().pickle_bytes);
        check_pickle(pickle, [&](const std::string& key) {
            const std::string name = folder + '/' + key;
            const auto record = d_records.find(name);
            return is_storage(name) && record != d_records.end()
                       ? std::optional(record->second.size())
                       : std::nullopt;
        });
    }
    for (const auto& [name, text] : d_records) {
        if (is_code(name))
            check_code(text);
        if (is_ir(name)) {
            const auto weights = d_records.find(name.substr(0, name.size() - 3) + "bin");
            vet_ir(text, weights == d_records.end() ? 0 : weights->second.size());
        }
    }
}

std::optional<std::string_view> model_archive::extra_file(const std::string& name) const
{
    const auto record = d_records.find("extra/" + name);
    return record == d_records.end() ? std::nullopt : std::optional(record->second);
}

stored_zip model_archive::rewritten() const { return stored_zip(d_records); }

std::string sha256(std::string_view bytes)
{
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    if (!EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr))
        throw std::runtime_error("OpenSSL has no SHA-256 here");
    std::string hex;
    for (unsigned i = 0; i < size; i++)
        for (const int digit : { digest[i] >> 4, digest[i] & 15 })
            hex += "0123456789abcdef"[digit];
    return hex;
}

} // namespace gr::deeprx
