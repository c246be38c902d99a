/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "engine.h"

#include <string>

namespace gr::deeprx {

//! \throws std::invalid_argument "<expected>, got <actual>", unless fine
void expect(bool fine, const std::string& expected, const std::string& actual);

/*!
 * \return which CUDA device "cuda" or "cuda:<n>" names; -1: "cpu"
 * \throws std::invalid_argument it is none of these
 */
int cuda_index(const std::string& device);

//! \throws std::invalid_argument a number is out of range
void check_range(const engine_parameters& parameters);

/*!
 * \brief One claim on the process-wide number of CPU threads.
 * \throws std::invalid_argument another claim is for another number
 */
class thread_claim
{
public:
    explicit thread_claim(int threads);
    ~thread_claim();
    thread_claim(const thread_claim&) = delete;
    thread_claim& operator=(const thread_claim&) = delete;
};

} // namespace gr::deeprx
