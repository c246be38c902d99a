/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "background_worker.h"
#include "engine.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace gr::deeprx {

//! A model, warmed up.
struct loaded_model {
    std::unique_ptr<gr::deeprx::engine> engine;
    std::vector<double> batch_seconds; // that each batch size takes

    //! A slow minimum: one disturbed inference must not forbid its batch size for ever.
    void took(int size, double seconds)
    {
        batch_seconds[size] = std::min(seconds, 1.01 * batch_seconds[size]);
    }
};

/*!
 * \brief The model that receives, and how another takes its place without a pause: loaded and
 * destroyed on a thread of its own, exchanged between two slots.
 *
 * Used by one thread.
 */
class model_swap
{
public:
    using loader = std::function<loaded_model()>;

    struct answer {
        std::shared_ptr<const loaded_model> model;
        std::string error; // why there is none
    };

    explicit model_swap(loaded_model first)
        : d_current(std::make_shared<loaded_model>(std::move(first)))
    {
    }

    loaded_model& operator*() const { return *d_current; }
    loaded_model* operator->() const { return d_current.get(); }

    /*!
     * \param load called on the other thread
     * \param at_slot first slot of the new model
     * \param on_answer called there, too, when there is an answer
     */
    void load(loader load, uint64_t at_slot, std::function<void()> on_answer);

    //! Answers that were not taken yet. Of the models among them, the last one is next.
    std::vector<answer> take_answers();

    //! Whether the next model is there, and this slot the first for it, or behind.
    bool due(uint64_t slot) const { return d_next && slot >= d_at_slot; }

    //! Goes on with the next model.
    void change();

private:
    struct result {
        std::shared_ptr<loaded_model> model;
        std::string error;
        uint64_t at_slot;
    };

    std::shared_ptr<loaded_model> d_current;
    std::shared_ptr<loaded_model> d_next;
    uint64_t d_at_slot = 0;

    std::mutex d_results_mutex;
    std::vector<result> d_results;

    background_worker d_background; // last: stops before what its jobs use goes away
};

} // namespace gr::deeprx
