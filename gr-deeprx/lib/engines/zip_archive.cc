/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "zip_archive.h"
#include "model_rules.h"

#include <zlib.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <unordered_set>

namespace gr::deeprx {

namespace {

// APPNOTE.TXT 6.3.10 of PKWARE, which the numbers in comments refer to
constexpr uint32_t local_header = 0x04034b50, central_header = 0x02014b50, end_header = 0x06054b50;
constexpr uint32_t zip64_end_header = 0x06064b50, zip64_locator = 0x07064b50;
constexpr uint16_t behind_data = 0x0008, utf8 = 0x0800; // flags
constexpr uint16_t stored = 0, deflated = 8;            // methods
constexpr size_t alignment = 64;

[[noreturn]] void damaged(const std::string& what)
{
    throw std::runtime_error("is not a TorchScript archive, or a damaged one: " + what);
}

//! Reads little-endian numbers; beyond the end is an error.
class cursor
{
public:
    cursor(std::string_view bytes, size_t at) : d_bytes(bytes), d_at(at) {}

    uint64_t number(int size)
    {
        const auto field = take(size);
        uint64_t value = 0;
        for (int i = size - 1; i >= 0; i--)
            value = value << 8 | static_cast<unsigned char>(field[i]);
        return value;
    }
    uint16_t u16() { return static_cast<uint16_t>(number(2)); }
    uint32_t u32() { return static_cast<uint32_t>(number(4)); }
    uint64_t u64() { return number(8); }
    std::string_view take(size_t size)
    {
        if (d_at > d_bytes.size() || size > d_bytes.size() - d_at)
            damaged("its list of records cannot be read");
        d_at += size;
        return d_bytes.substr(d_at - size, size);
    }
    size_t at() const { return d_at; }

private:
    std::string_view d_bytes;
    size_t d_at;
};

struct directory {
    uint64_t records, size, at;
};

//! 4.3.14 to 4.3.16: nothing may stand behind the list of records, or between it and its end.
directory find_directory(std::string_view bytes)
{
    constexpr size_t end_size = 22, locator_size = 20, zip64_size = 56;
    if (bytes.size() < end_size)
        damaged("it ends too early");
    size_t end = bytes.size() - end_size;
    cursor c(bytes, end);
    if (c.u32() != end_header)
        damaged("it ends otherwise than a ZIP archive");
    const bool one_disk = c.u32() == 0;
    const uint16_t here = c.u16(), all = c.u16();
    directory found{ all, c.u32(), c.u32() };
    const bool no_comment = c.u16() == 0;
    if (!one_disk || here != all || !no_comment)
        damaged("it is of several disks, or ends with a comment");
    if (end >= locator_size + zip64_size &&
        cursor(bytes, end - locator_size).u32() == zip64_locator) {
        cursor locator(bytes, end - locator_size + 4);
        const uint32_t disk = locator.u32();
        const uint64_t at = locator.u64();
        end -= locator_size + zip64_size;
        cursor c64(bytes, end);
        if (disk != 0 || at != end || locator.u32() != 1 || c64.u32() != zip64_end_header ||
            c64.u64() != zip64_size - 12)
            damaged("its ZIP64 end does not stand where it says");
        c64.take(4); // versions
        const bool one_disk64 = c64.u64() == 0;
        const uint64_t here64 = c64.u64();
        const directory found64{ c64.u64(), c64.u64(), c64.u64() };
        const auto agree = [](uint64_t narrow, uint64_t wide, uint64_t most) {
            return narrow == wide || narrow == most;
        };
        if (!one_disk64 || here64 != found64.records ||
            !agree(found.records, found64.records, 0xffff) ||
            !agree(found.size, found64.size, 0xffffffff) ||
            !agree(found.at, found64.at, 0xffffffff))
            damaged("its two ends differ");
        found = found64;
    }
    if (found.at > end || found.size != end - found.at)
        damaged("its list of records does not stand where it says");
    if (found.records > rules().records)
        damaged("it lists " + std::to_string(found.records) + " records, allowed are " +
                std::to_string(rules().records));
    return found;
}

//! "folder/a/b" -> "a/b"
std::string without_folder(std::string_view name, std::string& folder)
{
    const auto printable = [](char c) { return c > ' ' && c <= '~' && c != '\\'; };
    if (name.size() > rules().name_bytes || !std::all_of(name.begin(), name.end(), printable))
        damaged("the name of a record is longer than " + std::to_string(rules().name_bytes) +
                " characters or not printable");
    for (size_t start = 0, end; start <= name.size(); start = end + 1) {
        end = std::min(name.find('/', start), name.size());
        const auto part = name.substr(start, end - start);
        if (part.empty() || part == "." || part == "..")
            damaged("the name of a record has an empty part, . or ..");
    }
    const auto slash = name.find('/');
    if (slash == std::string_view::npos)
        damaged("a record is not in a folder");
    if (folder.empty())
        folder = name.substr(0, slash);
    if (name.substr(0, slash) != folder)
        damaged("its records are in several folders");
    return std::string(name.substr(slash + 1));
}

struct entry {
    zip_record record;
    size_t start, end; // in the file: of local header and data
};

//! 4.3.7, 4.3.9, 4.3.12: sizes beyond 4 GiB (ZIP64) are larger than a model file may be.
entry read_entry(std::string_view bytes, cursor& central, std::string& folder)
{
    if (central.u32() != central_header)
        damaged("its list of records cannot be read");
    central.take(4); // versions
    const uint16_t flags = central.u16(), method = central.u16();
    central.take(4); // time
    const uint32_t crc = central.u32(), packed = central.u32(), size = central.u32();
    const uint16_t name_size = central.u16(), extra = central.u16(), comment = central.u16();
    const uint16_t disk = central.u16();
    central.take(6); // attributes
    const uint32_t start = central.u32();
    const auto name = central.take(name_size);
    central.take(extra + comment);

    const std::string short_name = without_folder(name, folder);
    if (flags & ~(behind_data | utf8) || disk != 0 || (method != stored && method != deflated))
        damaged(short_name + " is encrypted, or compressed in a way that models are not");
    if (method == stored && packed != size)
        damaged(short_name + " has two sizes");

    cursor local(bytes, start);
    if (local.u32() != local_header)
        damaged(short_name + " does not stand where it says");
    local.take(2); // version
    const uint16_t local_flags = local.u16(), local_method = local.u16();
    local.take(4); // time
    const uint32_t local_crc = local.u32(), local_packed = local.u32(), local_size = local.u32();
    const uint16_t local_name_size = local.u16(), local_extra = local.u16();
    const auto local_name = local.take(local_name_size);
    local.take(local_extra);
    const bool same = local_crc == crc && local_packed == packed && local_size == size;
    const bool later = flags & behind_data && !local_crc && !local_packed && !local_size;
    if (local_name != name || local_flags != flags || local_method != method || !(same || later))
        damaged(short_name + " is told of in two ways");
    const auto data = local.take(packed);
    return { { short_name, data, crc, size, method == deflated }, start, local.at() };
}

std::string lower(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(), ::tolower);
    return text;
}

std::string little_endian(uint64_t value, int size)
{
    std::string out;
    for (int i = 0; i < size; i++)
        out += static_cast<char>(value >> 8 * i & 0xff);
    return out;
}

uint32_t checksum(std::string_view data)
{
    return static_cast<uint32_t>(
        crc32_z(0, reinterpret_cast<const unsigned char*>(data.data()), data.size()));
}

} // namespace

std::vector<zip_record> read_zip(std::string_view bytes)
{
    const directory list = find_directory(bytes);
    std::vector<entry> entries;
    std::string folder;
    cursor central(bytes, list.at);
    for (uint64_t i = 0; i < list.records; i++)
        entries.push_back(read_entry(bytes.substr(0, list.at), central, folder));
    if (central.at() != list.at + list.size)
        damaged("its list of records is longer than its records");

    std::sort(entries.begin(), entries.end(), [](const entry& a, const entry& b) {
        return a.start < b.start;
    });
    size_t end = 0;
    for (const entry& e : entries) {
        if (e.start < end)
            damaged(e.record.name + " overlaps another record");
        end = e.end;
    }

    std::vector<zip_record> records;
    std::unordered_set<std::string> seen; // LibTorch finds records without regard to case
    for (entry& e : entries) {
        if (!seen.insert(lower(e.record.name)).second)
            throw std::runtime_error("refused, a second record " + e.record.name +
                                     " is not allowed in a model");
        records.push_back(std::move(e.record));
    }
    std::sort(records.begin(), records.end(), [](const zip_record& a, const zip_record& b) {
        return a.name < b.name;
    });
    return records;
}

std::string_view contents(const zip_record& record, std::string& inflated)
{
    std::string_view data = record.data;
    if (record.deflated) {
        inflated.resize(record.size);
        z_stream stream{};
        if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
            throw std::runtime_error("zlib cannot start");
        stream.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(record.data.data()));
        stream.avail_in = static_cast<unsigned>(record.data.size());
        stream.next_out = reinterpret_cast<unsigned char*>(inflated.data());
        stream.avail_out = static_cast<unsigned>(inflated.size());
        const int result = inflate(&stream, Z_FINISH);
        const bool whole = result == Z_STREAM_END && !stream.avail_in && !stream.avail_out;
        inflateEnd(&stream);
        if (!whole)
            damaged(record.name + " does not inflate to the size that it says");
        data = inflated;
    }
    if (checksum(data) != record.crc)
        throw std::runtime_error("is damaged: " + record.name +
                                 " has not the checksum that it was written with");
    return data;
}

stored_zip::stored_zip(const std::map<std::string, std::string_view>& records)
{
    const auto write = [this](std::string header) {
        append(d_headers.emplace_back(std::move(header)));
    };
    std::string directory;
    for (const auto& [name, data] : records) {
        const std::string path = "m/" + name; // no longer than it was
        const size_t start = d_size;
        const size_t padding = (alignment - (start + 30 + path.size() + 4) % alignment) % alignment;
        const std::string common = little_endian(20, 2) + little_endian(0, 2) +
                                   little_endian(stored, 2) + little_endian(0x00210000, 4) +
                                   little_endian(checksum(data), 4) +
                                   little_endian(data.size(), 4) + little_endian(data.size(), 4) +
                                   little_endian(path.size(), 2);
        write(little_endian(local_header, 4) + common + little_endian(4 + padding, 2) + path +
              "FB" + little_endian(padding, 2) + std::string(padding, 'Z')); // as LibTorch pads
        append(data);
        directory += little_endian(central_header, 4) + little_endian(20, 2) + common +
                     std::string(12, '\0') + little_endian(start, 4) + path;
    }
    const auto end = little_endian(end_header, 4) + std::string(4, '\0') +
                     little_endian(records.size(), 2) + little_endian(records.size(), 2) +
                     little_endian(directory.size(), 4) + little_endian(d_size, 4) +
                     std::string(2, '\0');
    write(directory + end);
}

void stored_zip::append(std::string_view part)
{
    if (part.empty())
        return;
    d_parts.emplace(d_size, part);
    d_size += part.size();
}

size_t stored_zip::read(size_t at, char* to, size_t n) const
{
    if (at >= d_size)
        return 0;
    n = std::min(n, d_size - at);
    auto part = std::prev(d_parts.upper_bound(at));
    for (size_t done = 0; done < n; ++part)
        done += part->second.substr(at + done - part->first).copy(to + done, n - done);
    return n;
}

std::string stored_zip::text() const
{
    std::string all(d_size, '\0');
    read(0, all.data(), all.size());
    return all;
}

} // namespace gr::deeprx
