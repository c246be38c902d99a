/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>
#include <gnuradio/deeprx/slot_config.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace gr::deeprx {

//! What can compute a receiver, with versions, the one that a file runs as by default last:
//! "TorchScript 2.13.0", "OpenVINO 2026.4.1", "native".
DEEPRX_API std::vector<std::string> engines();

/*!
 * \brief This processor's instructions for arithmetic at a precision: "AVX-512 BF16", "AMX", ...
 * \param precision "float32", "bfloat16" or "int8"
 * \return empty: it has none, and models of this precision run slowly on it
 */
DEEPRX_API std::string instructions(const std::string& precision);

/*!
 * \brief Checks a model file as the receiver does before it runs anything of it.
 *
 * For programs that run models by other means than the receiver block. TorchScript is a program:
 * its operators are compared with an allow-list, its deeprx.json with the parameters (see
 * receiver).
 *
 * \param sealed a memfd with the whole file, sealed against writes and another size: what was
 * checked is then what is loaded
 * \param trust files that are checked in this process, as the receiver's; others are in a jail
 * \throws std::invalid_argument if a parameter is out of range, or the memfd not sealed
 * \throws std::runtime_error one line: what was expected and what was found
 * \throws jail_lost
 */
DEEPRX_API void check_model(int sealed,
                            const slot_config& slot,
                            int n_rx,
                            const std::string& device,
                            const std::vector<std::string>& trust = {});

//! What a model file that is not trusted may take in its jail.
struct jail_limits {
    double memory = 2.0 * (1 << 30); //!< bytes, beyond what the inference libraries hold
    double load_s = 60.0;            //!< seconds to load, and to compile for each size of batch
    double batch_s = 5.0;       //!< seconds for a batch, to which comes 50 times what one takes
    double most_batch_s = 30.0; //!< seconds for a batch at most

    //! Seconds that a batch may take of which one took \p warm_s.
    double patience(double warm_s) const { return std::min(most_batch_s, batch_s + 50.0 * warm_s); }
};

//! \throws std::invalid_argument one is not above 0, or nothing can keep it
DEEPRX_API void check_limits(const jail_limits& limits);

//! Those of jails from the next one on, where a receiver has none of its own. \throws as
//! check_limits()
DEEPRX_API void set_jail_limits(const jail_limits& limits);

//! A jail has ended or was ended: it crashed, or took too long. what(): one line.
class DEEPRX_API jail_lost : public std::runtime_error
{
public:
    using std::runtime_error::runtime_error;
};

//! Has this called some 20 times a second by whatever waits for a jail. What it throws ends jail
//! and wait: a host's way to be interrupted.
DEEPRX_API void watch_jails(void (*watch)());

//! Waits for loads that no receiver waits for any more: to be called before the process tears down
//! what they work with, which exit() may do before it waits for them.
DEEPRX_API void wait_for_loads();

} // namespace gr::deeprx
