/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace gr::deeprx {

/*!
 * \brief The bytes of a model file, which is opened once and never waited for.
 * \throws std::runtime_error one line, without the path: it cannot be read, is no regular file, or
 * is too long
 */
std::string read_model_file(const std::string& path);

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
    explicit model_archive(std::string bytes);
    model_archive(const model_archive&) = delete;

    //! Of the whole file as it was read, hexadecimal.
    const std::string& sha256() const { return d_sha256; }

    std::string_view deeprx_json() const { return *extra_file("deeprx.json"); }

    //! A file that the archive carries beside the TorchScript (_extra_files), if it is there.
    std::optional<std::string_view> extra_file(const std::string& name) const;

    //! All that was accepted as an archive of its own, without what only debuggers read.
    std::string rewritten() const;

private:
    const std::string d_bytes;
    const std::string d_sha256;
    std::list<std::string> d_inflated;
    std::map<std::string, std::string_view> d_records;
};

//! Hexadecimal.
std::string sha256(std::string_view bytes);

} // namespace gr::deeprx
