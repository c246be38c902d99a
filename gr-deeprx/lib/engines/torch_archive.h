/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "model_archive.h"
#include "model_info.h"
#include "slot_geometry.h"

#include <caffe2/serialize/read_adapter_interface.h>

#include <memory>
#include <string>
#include <string_view>

namespace gr::deeprx {

//! A model file as LibTorch gets it: what model_archive accepted, written out anew while it is
//! read.
class torch_archive : public caffe2::serialize::ReadAdapterInterface
{
public:
    //! \param accepted outlives this
    explicit torch_archive(const model_archive& accepted)
        : d_accepted(accepted), d_file(accepted.rewritten())
    {
    }

    size_t size() const override { return d_file.size(); }
    size_t read(uint64_t pos, void* buf, size_t n, const char*) const override
    {
        return d_file.read(pos, static_cast<char*>(buf), n);
    }
    std::string_view record(const std::string& name) const { return d_accepted.record(name); }

private:
    const model_archive& d_accepted;
    const stored_zip d_file;
};

//! A model that may be run on the slots that it was checked for, while its archive is there.
struct vetted_model {
    model_info info;
    std::shared_ptr<torch_archive> program;
};

/*!
 * \brief Reads what a model says about itself and checks all that speaks against running its
 * TorchScript on these slots.
 * \throws std::runtime_error one line: what was expected and what was found
 */
vetted_model
vet_model(const model_archive& archive, const slot_geometry& slot, int n_rx, bool on_cuda);

} // namespace gr::deeprx
