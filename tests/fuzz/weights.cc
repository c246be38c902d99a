/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "weights_file.h"

//! weights.safetensors of a model file.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    fuzz::accepts([&] {
        size_t bytes = 0;
        for (const auto& [name, tensor] : gr::deeprx::read_weights(fuzz::text(data, size)))
            bytes += tensor.bytes.size();
        fuzz::expect(bytes < size, "tensors within the file");
    });
    return 0;
}
