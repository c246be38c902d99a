/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "torch_archive.h"

#include <memory>

namespace gr::deeprx {

/*!
 * \brief Refuses a TorchScript archive that does more than compute.
 *
 * TorchScript is a program: torch::jit::load runs __setstate__, and operators such as
 * aten::from_file and aten::save read and write files. This compiles all code of the archive,
 * without running any of it, and checks every operator of every method and function against an
 * allow-list. The compiler itself evaluates default arguments and class constants, so the syntax
 * trees are checked for calls there before anything is compiled. How long or how much memory a
 * model computes is not bounded.
 * \throws std::runtime_error one line: what is not allowed and where it is
 */
void vet_torchscript(const std::shared_ptr<torch_archive>& archive);

} // namespace gr::deeprx
