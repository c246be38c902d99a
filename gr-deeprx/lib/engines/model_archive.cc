/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_archive.h"
#include "torchscript_vetting.h"

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include <boost/crc.hpp>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace gr::deeprx {

namespace {

using caffe2::serialize::PyTorchStreamReader;

//! A little-endian number within a ZIP archive.
uint64_t number(const std::string& zip, size_t at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | static_cast<unsigned char>(zip.at(at + i));
    return value;
}

struct zip_record {
    std::string name;
    uint32_t crc;
};

//! What the central directory lists (APPNOTE 4.3.12 to 4.3.16, with ZIP64, which LibTorch writes).
std::vector<zip_record> central_directory(const std::string& zip)
{
    std::vector<zip_record> records;
    size_t end = zip.rfind("PK\x05\x06");
    size_t count = number(zip, end + 10, 2), at = number(zip, end + 16, 4);
    if (count == 0xffff || at == 0xffffffff) {
        end = number(zip, end - 20 + 8, 8);
        count = number(zip, end + 32, 8);
        at = number(zip, end + 48, 8);
    }
    for (; records.size() < count;
         at += 46 + number(zip, at + 28, 2) + number(zip, at + 30, 2) + number(zip, at + 32, 2))
        records.push_back({ zip.substr(at + 46, number(zip, at + 28, 2)),
                            static_cast<uint32_t>(number(zip, at + 16, 4)) });
    return records;
}

//! LibTorch loads a record whatever its checksum says.
void expect_checksums(const std::string& zip, PyTorchStreamReader& reader)
{
    std::vector<zip_record> records;
    try {
        records = central_directory(zip);
    } catch (const std::out_of_range&) {
        throw std::runtime_error("is damaged: its list of records cannot be read");
    }
    for (const auto& record : records) {
        const auto [data, size] = reader.getRecord(record.name.substr(record.name.find('/') + 1));
        boost::crc_32_type crc;
        crc.process_bytes(data.get(), size);
        if (crc.checksum() != record.crc)
            throw std::runtime_error("is damaged: " + record.name +
                                     " has not the checksum that it was written with");
    }
}

std::string read_metadata(const std::shared_ptr<model_archive>& archive)
{
    std::unique_ptr<PyTorchStreamReader> reader;
    try {
        reader = std::make_unique<PyTorchStreamReader>(archive);
    } catch (const std::exception&) {
        throw std::runtime_error("is not a TorchScript archive (torch.jit.save makes one)");
    }
    if (!reader->hasRecord("constants.pkl") || !reader->hasRecord("data.pkl"))
        throw std::runtime_error("is not a TorchScript archive (torch.jit.save makes one, "
                                 "torch.save does not)");
    expect_checksums(archive->bytes(), *reader);
    auto json = extra_file(archive, "deeprx.json");
    if (!json)
        throw std::runtime_error("has no deeprx.json (torch.jit.save with _extra_files adds it)");
    return *json;
}

void select_quantized_engine(const std::string& name)
{
    if (name.empty())
        return;
    std::string supported;
    for (const auto engine : at::globalContext().supportedQEngines()) {
        std::string engine_name = c10::toString(engine);
        std::transform(engine_name.begin(), engine_name.end(), engine_name.begin(), ::tolower);
        if (engine_name == name)
            return at::globalContext().setQEngine(engine);
        supported += (supported.empty() ? "" : ", ") + engine_name;
    }
    throw std::runtime_error("the model needs the quantised engine " + name +
                             ", LibTorch has: " + supported);
}

//! LibTorch 2.13 says on its first quantised tensor that these will go: not the user's concern.
class no_warnings : public c10::WarningHandler
{
    void process(const c10::Warning&) override {}
};

} // namespace

std::shared_ptr<model_archive> model_archive::open(const std::string& path)
{
    if (std::filesystem::is_directory(path))
        throw std::runtime_error("is a directory");
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw std::runtime_error(std::string("cannot be read: ") + std::strerror(errno));
    return std::make_shared<model_archive>(
        std::string{ std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>() });
}

size_t model_archive::read(uint64_t pos, void* buf, size_t n, const char*) const
{
    if (pos >= d_bytes.size())
        return 0;
    n = std::min<size_t>(n, d_bytes.size() - pos);
    std::memcpy(buf, d_bytes.data() + pos, n);
    return n;
}

std::string model_archive::sha256() const
{
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    if (!EVP_Digest(d_bytes.data(), d_bytes.size(), digest.data(), &size, EVP_sha256(), nullptr))
        throw std::runtime_error("OpenSSL has no SHA-256 here");
    std::string hex;
    for (unsigned i = 0; i < size; i++)
        for (const int digit : { digest[i] >> 4, digest[i] & 15 })
            hex += "0123456789abcdef"[digit];
    return hex;
}

model_info vetted_info(const std::shared_ptr<model_archive>& archive,
                       const slot_geometry& slot,
                       int n_rx,
                       bool on_cuda)
{
    model_info info = parse_model_info(read_metadata(archive));
    info.sha256 = archive->sha256();
    check_model_fits(info, slot, n_rx, on_cuda);
    select_quantized_engine(info.quantized_engine);
    no_warnings handler;
    c10::WarningUtils::WarningHandlerGuard quiet(&handler);
    vet_torchscript(archive);
    return info;
}

std::optional<std::string> extra_file(const std::shared_ptr<model_archive>& archive,
                                      const std::string& name)
{
    PyTorchStreamReader reader(archive);
    if (!reader.hasRecord("extra/" + name))
        return std::nullopt;
    const auto [data, size] = reader.getRecord("extra/" + name);
    return std::string(static_cast<const char*>(data.get()), size);
}

std::string one_line(const std::exception& e)
{
    const auto* torch_error = dynamic_cast<const c10::Error*>(&e);
    std::string text = torch_error ? torch_error->what_without_backtrace() : e.what();
    text.erase(text.find_last_not_of(" \n") + 1);
    text.erase(0, text.find_first_not_of(" \n"));
    // The TorchScript interpreter puts the cause behind its call stack, which ends with a few lines
    // of code, and behind its type: "RuntimeError: ".
    if (const auto stack = text.rfind("<--- HERE"); stack != std::string::npos) {
        std::istringstream lines(text.substr(stack));
        for (std::string line; std::getline(lines, line);)
            if (const auto type = line.find(": "); type < line.find(' '))
                return line.substr(type + 2);
    }
    return text.substr(0, text.find('\n'));
}

} // namespace gr::deeprx
