/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "batch_sizes.h"
#include "engine.h"
#include "model_swap.h"

#include <gnuradio/logger.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

namespace gr::deeprx {

//! Loads and warms up a block's models, and logs what they are. Copies work on
//! other threads, also when the block is gone.
class model_loader
{
public:
    model_loader(const engine_parameters& parameters, gr::logger_ptr logger);

    const batch_sizes& sizes() const { return d_sizes; }

    //! Ends what waits for a jail, that of copies, too.
    void cancel() const { *d_cancelled = true; }

    //! Loads and warms up.
    //! \param bound as warm_up() takes it
    //! \throws as load_engine() does
    loaded_model load(const std::string& path, bool bound) const;

    //! A block's first one: what any thread may warm up is, so that no start waits for it.
    //! \param bytes as load_engine() takes them
    //! \throws as load_engine() does
    loaded_model load_first(const std::string& path, const std::optional<model_bytes>& bytes) const;

    /*!
     * \brief Warms it up, on this thread if it belongs to one.
     * \param bound whether it stays on the cores of the calling thread
     * \throws std::runtime_error one line
     */
    void warm_up(loaded_model& model, bool bound) const;

private:
    loaded_model open(const std::string& path,
                      const std::optional<model_bytes>& bytes = std::nullopt) const;
    void say_once(const model_info& info, const std::string& engine) const;

    std::shared_ptr<std::atomic<bool>> d_cancelled;
    engine_parameters d_parameters;
    batch_sizes d_sizes;
    gr::logger_ptr d_logger;
};

} // namespace gr::deeprx
