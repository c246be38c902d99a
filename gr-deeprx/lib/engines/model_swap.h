/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "background_worker.h"
#include "engine.h"
#include "fresh_jails.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
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
 * A model whose jail is lost gets a fresh one, at most once a second and three times in all,
 * whatever ran in between. Then the file is refused, and the model before it receives again. As
 * long as a jailed one runs, two are kept: the one before it, and the last one without a jail;
 * where there was none, the first one of all.
 *
 * Used by one thread. Its destructor waits for no load; functions that it was given must hold what
 * they need, but on_answer, which is not called any more.
 */
class model_swap
{
public:
    using clock = fresh_jails::clock;
    using loader = std::function<loaded_model()>;

    enum class event {
        loaded,
        failed,   // a request
        replaced, // a request, by a newer one
        lost      // the running model, or its fresh jail
    };

    struct answer {
        event what;
        std::shared_ptr<const loaded_model> model; // if loaded
        std::string line;                          // if not
        std::string path;                          // that was asked for, if it was
    };

    //! \param on_answer called on another thread when there is an answer
    model_swap(loaded_model first, std::function<void()> on_answer);
    ~model_swap();

    loaded_model& operator*() const { return *d_current; }
    loaded_model* operator->() const { return d_current.get(); }

    /*!
     * \brief Asks for another model, in place of one that still waits to be loaded.
     * \param path of its file
     * \param load called on the other thread
     * \param at_slot first slot of the new model
     */
    void load(const std::string& path, loader load, uint64_t at_slot);

    //! Whether there are answers that were not taken yet.
    bool answered() const;

    //! They. Of the models among them, the last one is next.
    std::vector<answer> take_answers();

    //! Whether a model is there for which this slot is the first, or behind.
    bool due(uint64_t slot) const { return d_renewed || is_next(slot); }

    //! Goes on with that model.
    void change(uint64_t slot);

    //! Whether the running model's jail is lost: nothing can be received until a change().
    bool lost() const { return d_lost; }

    //! It is lost. \return false: this is known
    bool lose();

    /*!
     * \brief Sees to it that a lost model gets its fresh jail, or another takes its place.
     * \param warm_up called on another thread
     * \throws std::runtime_error one line: there is no model any more
     */
    void renew(clock::time_point now, std::function<void(loaded_model&)> warm_up);

private:
    struct inbox;

    bool is_next(uint64_t slot) const { return d_next && slot >= d_at_slot; }
    void retire(std::shared_ptr<loaded_model> model);
    void give_up();
    void keep(std::shared_ptr<loaded_model> model);
    template <class Condition>
    void forget(const Condition& condition);

    std::shared_ptr<loaded_model> d_current;
    std::shared_ptr<loaded_model> d_next;
    uint64_t d_at_slot = 0;

    bool d_lost = false;
    std::vector<std::shared_ptr<loaded_model>> d_before; // the last one is the next to return to
    std::shared_ptr<loaded_model> d_renewed;             // takes the lost one's place
    bool d_renewing = false;
    std::map<std::string, fresh_jails> d_fresh_jails; // by sha256: a swap gives no more of them
    uint64_t d_file = 0;                              // the current one's number
    std::set<std::string> d_refused;                  // sha256

    const std::shared_ptr<inbox> d_inbox;
    background_worker d_loads;
    background_worker d_renewals; // which wait for no load
};

} // namespace gr::deeprx
