/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "model_bytes.h"
#include "zip_archive.h"

#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace gr::deeprx {

/*!
 * \brief The one reader of a model file: what it accepts is what everybody sees, LibTorch included,
 * which gets rewritten() and never the file itself.
 *
 * Before the constructor returns, all is bounded by model_rules and fits together: the ZIP archive
 * and its checksums, storages and tensors, the nesting of code, pickles, IR and deeprx.json. What a
 * program does, and whether deeprx.json says what a receiver needs, others check. Needs no LibTorch
 * and runs nothing.
 */
class model_archive
{
public:
    //! \throws std::runtime_error one line
    explicit model_archive(model_bytes bytes);
    model_archive(const model_archive&) = delete;

    const model_bytes& bytes() const { return d_bytes; }

    //! Of the whole file as it was read, hexadecimal.
    const std::string& sha256() const { return d_sha256; }

    std::string_view deeprx_json() const { return *extra_file("deeprx.json"); }

    //! A file that the archive carries beside the TorchScript (_extra_files), if it is there.
    std::optional<std::string_view> extra_file(const std::string& name) const;

    //! \throws std::out_of_range there is none of that name, or only debuggers read it
    std::string_view record(const std::string& name) const { return d_records.at(name); }

    //! All that was accepted as an archive of its own, without what only debuggers read. It has no
    //! records of its own: this one's.
    stored_zip rewritten() const;

private:
    const model_bytes d_bytes;
    const std::string d_sha256;
    std::list<std::string> d_inflated;
    std::map<std::string, std::string_view> d_records;
};

//! Hexadecimal.
std::string sha256(std::string_view bytes);

} // namespace gr::deeprx
