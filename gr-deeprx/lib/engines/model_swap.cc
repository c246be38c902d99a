/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_swap.h"

#include <utility>

namespace gr::deeprx {

void model_swap::load(loader load, uint64_t at_slot, std::function<void()> on_answer)
{
    d_background.post([this, load = std::move(load), at_slot, on_answer = std::move(on_answer)] {
        result result{ nullptr, "", at_slot };
        try {
            result.model = std::make_shared<loaded_model>(load());
        } catch (const std::exception& e) {
            result.error = e.what();
        }
        {
            std::lock_guard<std::mutex> lock(d_results_mutex);
            d_results.push_back(std::move(result));
        }
        on_answer();
    });
}

std::vector<model_swap::answer> model_swap::take_answers()
{
    std::vector<result> results;
    {
        std::lock_guard<std::mutex> lock(d_results_mutex);
        results.swap(d_results);
    }
    std::vector<answer> answers;
    for (const auto& [model, error, at_slot] : results) {
        answers.push_back({ model, error });
        if (model) {
            d_next = model;
            d_at_slot = at_slot;
        }
    }
    return answers;
}

void model_swap::change()
{
    d_background.post([retired = std::move(d_current)] {});
    d_current = std::move(d_next);
}

} // namespace gr::deeprx
