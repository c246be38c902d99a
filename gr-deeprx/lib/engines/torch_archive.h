/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "model_archive.h"
#include "model_info.h"
#include "slot_geometry.h"

#include <caffe2/serialize/read_adapter_interface.h>

#include <memory>
#include <string>

namespace gr::deeprx {

/*!
 * \brief A model file as LibTorch gets it: what model_archive accepted, written out anew.
 */
class torch_archive : public caffe2::serialize::ReadAdapterInterface
{
public:
    explicit torch_archive(const model_archive& accepted) : d_bytes(accepted.rewritten()) {}

    size_t size() const override { return d_bytes.size(); }
    size_t read(uint64_t pos, void* buf, size_t n, const char* what) const override;

private:
    const std::string d_bytes;
};

//! A model that may be run on the slots that it was checked for.
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
