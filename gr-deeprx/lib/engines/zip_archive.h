/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gr::deeprx {

//! A record of a ZIP archive. \p data: as it is there, maybe deflated.
struct zip_record {
    std::string name; // without the folder that all are in
    std::string_view data;
    uint32_t crc;
    size_t size;
    bool deflated;
};

/*!
 * \brief The records of a ZIP archive as LibTorch and Python write it, in the order of their names.
 *
 * Every name is printable, of one top folder, and no other's whatever its case; every record lies
 * in a place of its own, and its local header says what the central directory does. Checksums are
 * not looked at: contents() does that.
 * \throws std::runtime_error one line
 */
std::vector<zip_record> read_zip(std::string_view bytes);

/*!
 * \brief What a record holds, inflated where it was deflated: exactly zip_record::size bytes with
 * the checksum that they were written with.
 * \param inflated where that is kept
 * \throws std::runtime_error one line
 */
std::string_view contents(const zip_record& record, std::string& inflated);

//! Writes records one by one: stored, in one folder, each at a multiple of 64 bytes.
class zip_writer
{
public:
    void add(const std::string& name, std::string_view data);
    std::string finish() &&;

private:
    std::string d_bytes, d_directory;
    uint16_t d_records = 0;
};

} // namespace gr::deeprx
