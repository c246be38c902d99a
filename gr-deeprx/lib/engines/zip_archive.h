/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
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

//! An archive of records that lie elsewhere: stored, in one folder, each at a multiple of 64 bytes.
class stored_zip
{
public:
    //! \param records by their names; they stay where they are while this is read
    explicit stored_zip(const std::map<std::string, std::string_view>& records);

    size_t size() const { return d_size; }

    //! Copies what there is of \p n bytes from \p at on. \return how many
    size_t read(size_t at, char* to, size_t n) const;

    //! All of it.
    std::string text() const;

private:
    void append(std::string_view part);

    std::list<std::string> d_headers;
    std::map<size_t, std::string_view> d_parts; // by where they begin
    size_t d_size = 0;
};

} // namespace gr::deeprx
