/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "model_info.h"
#include "slot_geometry.h"

#include <caffe2/serialize/read_adapter_interface.h>

#include <exception>
#include <memory>
#include <optional>
#include <string>

namespace gr::deeprx {

/*!
 * \brief A model file, read once: what is vetted is what is loaded.
 */
class model_archive : public caffe2::serialize::ReadAdapterInterface
{
public:
    explicit model_archive(std::string bytes) : d_bytes(std::move(bytes)) {}

    //! \throws std::runtime_error one line, without the path
    static std::shared_ptr<model_archive> open(const std::string& path);

    size_t size() const override { return d_bytes.size(); }
    size_t read(uint64_t pos, void* buf, size_t n, const char* what) const override;

    const std::string& bytes() const { return d_bytes; }
    std::string sha256() const;

private:
    const std::string d_bytes;
};

/*!
 * \brief What a model says about itself, once nothing speaks against running its TorchScript on
 * these slots.
 * \throws std::runtime_error one line: what was expected and what was found
 */
model_info vetted_info(const std::shared_ptr<model_archive>& archive,
                       const slot_geometry& slot,
                       int n_rx,
                       bool on_cuda);

//! A file that the archive carries beside the TorchScript (_extra_files), if it is there.
std::optional<std::string> extra_file(const std::shared_ptr<model_archive>& archive,
                                      const std::string& name);

//! The line of an exception that names the cause.
std::string one_line(const std::exception& e);

} // namespace gr::deeprx
