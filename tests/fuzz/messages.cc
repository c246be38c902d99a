/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "receiver_messages.h"

//! What comes to a receiver's port model.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    fuzz::bytes from(data, size);
    if (const auto request = gr::deeprx::to_model_request(from.pmt()))
        gr::deeprx::to_model_request(gr::deeprx::to_message(*request));
    return 0;
}
