/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_swap.h"
#include "printable.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <utility>

namespace gr::deeprx {

namespace {

struct result {
    model_swap::event what = model_swap::event::failed;
    std::shared_ptr<loaded_model> model;
    std::string line;
    std::string path = {};
    uint64_t at_slot = 0;
    std::optional<uint64_t> renewal_of = {}; // number of a file
};

struct request {
    std::string path;
    model_swap::loader load;
    uint64_t at_slot;
};

//! \return result with a model or an error
result load_now(const model_swap::loader& load)
{
    result result;
    try {
        result.model = std::make_shared<loaded_model>(load());
        result.what = model_swap::event::loaded;
    } catch (const std::exception& e) {
        result.line = e.what();
    }
    return result;
}

} // namespace

//! What the threads share.
struct model_swap::inbox {
    std::mutex mutex;
    std::vector<result> results;
    std::atomic<bool> answered{ false };
    std::optional<request> waiting;
    std::function<void()> on_answer; // empty: nobody takes answers any more

    void put(result result)
    {
        std::lock_guard<std::mutex> lock(mutex);
        if (!on_answer)
            return;
        results.push_back(std::move(result));
        answered = true;
        on_answer();
    }

    void load_waiting()
    {
        std::optional<request> request;
        {
            std::lock_guard<std::mutex> lock(mutex);
            request.swap(waiting);
        }
        auto result = load_now(request->load);
        result.path = request->path;
        result.at_slot = request->at_slot;
        put(std::move(result));
    }
};

model_swap::model_swap(loaded_model first, std::function<void()> on_answer)
    : d_current(std::make_shared<loaded_model>(std::move(first))),
      d_inbox(std::make_shared<inbox>())
{
    d_inbox->on_answer = std::move(on_answer);
}

model_swap::~model_swap()
{
    std::lock_guard<std::mutex> lock(d_inbox->mutex);
    d_inbox->on_answer = nullptr;
}

void model_swap::load(const std::string& path, loader load, uint64_t at_slot)
{
    std::optional<request> replaced = request{ path, std::move(load), at_slot };
    {
        std::lock_guard<std::mutex> lock(d_inbox->mutex);
        replaced.swap(d_inbox->waiting);
    }
    if (replaced)
        d_inbox->put(
            { event::replaced,
              nullptr,
              "model file '" + printable(replaced->path, 200) + "': replaced by a newer request",
              replaced->path });
    else
        d_loads.post([inbox = d_inbox] { inbox->load_waiting(); });
}

bool model_swap::answered() const { return d_inbox->answered; }

std::vector<model_swap::answer> model_swap::take_answers()
{
    std::vector<result> results;
    {
        std::lock_guard<std::mutex> lock(d_inbox->mutex);
        results.swap(d_inbox->results);
        d_inbox->answered = false;
    }
    std::vector<answer> answers;
    for (auto& [what, model, line, path, at_slot, renewal_of] : results) {
        if (renewal_of) {
            if (*renewal_of != d_file) { // another model came in between
                retire(std::move(model));
                continue;
            }
            d_renewing = false;
            d_renewed = model;
            if (!model)
                answers.push_back({ event::lost, nullptr, "no fresh jail: " + line, "" });
            continue;
        }
        if (model && d_refused.count(model->engine->info().sha256)) {
            what = event::failed;
            line = fresh_jails::refusal(model->engine->info());
            retire(std::move(model));
        }
        answers.push_back({ what, model, line, path });
        if (model) {
            retire(std::move(d_next));
            d_next = model;
            d_at_slot = at_slot;
        }
    }
    return answers;
}

void model_swap::change(uint64_t slot)
{
    if (!is_next(slot)) {
        retire(std::exchange(d_current, std::move(d_renewed)));
        d_lost = false;
        return;
    }
    auto before = std::exchange(d_current, std::move(d_next));
    if (d_lost)
        retire(std::move(before));
    else
        keep(std::move(before));
    if (!d_current->engine->renewal()) // it has no jail that could be lost
        forget([](const auto&) { return true; });
    retire(std::move(d_renewed));
    d_lost = d_renewing = false;
    d_file++;
}

bool model_swap::lose() { return !std::exchange(d_lost, true); }

void model_swap::renew(clock::time_point now, std::function<void(loaded_model&)> warm_up)
{
    if (!d_lost || d_renewing || d_renewed)
        return;
    auto& fresh_jails = d_fresh_jails[d_current->engine->info().sha256];
    if (fresh_jails.none_left()) {
        give_up();
        return;
    }
    if (now < fresh_jails.next())
        return;
    fresh_jails.take(now);
    d_renewing = true;
    d_renewals.post([inbox = d_inbox,
                     file = d_file,
                     renewal = d_current->engine->renewal(),
                     warm_up = std::move(warm_up)] {
        auto result = load_now([&] {
            loaded_model model{ renewal(), {} };
            warm_up(model);
            return model;
        });
        result.renewal_of = file;
        inbox->put(std::move(result));
    });
}

void model_swap::give_up()
{
    const auto& info = d_current->engine->info();
    const std::string line = fresh_jails::refusal(info);
    d_refused.insert(info.sha256);
    forget([&](const auto& model) { return d_refused.count(model.engine->info().sha256); });
    if (d_before.empty())
        throw std::runtime_error(line + ", and there is no other model");
    d_renewed = std::move(d_before.back());
    d_before.pop_back();
    d_inbox->put(
        { event::lost, nullptr, line + "; " + d_renewed->engine->info().name + " receives again" });
    d_file++;
}

//! Strangers' files may come without end: the lowest one stays, only the one upon it is exchanged.
void model_swap::keep(std::shared_ptr<loaded_model> model)
{
    if (d_before.size() == 2) {
        retire(std::move(d_before.back()));
        d_before.pop_back();
    }
    d_before.push_back(std::move(model));
}

template <class Condition>
void model_swap::forget(const Condition& condition)
{
    for (auto& model : d_before)
        if (condition(*model))
            retire(std::move(model));
    d_before.erase(std::remove(d_before.begin(), d_before.end(), nullptr), d_before.end());
}

void model_swap::retire(std::shared_ptr<loaded_model> model)
{
    if (model)
        d_loads.post([model = std::move(model)] {});
}

} // namespace gr::deeprx
