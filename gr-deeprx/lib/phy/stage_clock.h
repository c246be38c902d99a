/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace gr::deeprx {

//! What a stage computes, and what must cross the border between it and the rest, each byte once.
struct stage_cost {
    double flop = 0.0, bytes = 0.0;
    std::string_view precision = "float32"; // of what is multiplied; of static storage
};

//! Times the stages of what one thread does, which may lie within one another.
class stage_clock
{
public:
    //! Of all calls so far; seconds without those of the stages in it.
    struct stage {
        std::string name; // with that of what it is in: "round: sum"
        std::string_view precision;
        long calls;
        double flop, bytes, seconds;
    };

    //! From its construction to its end; of no clock it does nothing.
    class scope
    {
    public:
        scope(stage_clock* clock, const char* name)
            : scope(clock, name, [] { return stage_cost{}; })
        {
        }
        //! \param cost gives a stage_cost, where there is a clock
        template <class counter>
        scope(stage_clock* clock, const char* name, const counter& cost) : d_clock(clock)
        {
            if (d_clock)
                d_clock->begin(name, cost());
        }
        ~scope()
        {
            if (d_clock)
                d_clock->end();
        }
        scope(const scope&) = delete;

    private:
        stage_clock* const d_clock;
    };

    stage_clock();

    //! In the order in which they began first.
    std::vector<stage> stages() const;

private:
    using clock = std::chrono::steady_clock;
    struct node {
        const char* name;
        int within; // -1: nothing
        std::string_view precision;
        long calls = 0;
        double flop = 0.0, bytes = 0.0, seconds = 0.0;
    };

    void begin(const char* name, const stage_cost& cost);
    void end();
    void pass();

    std::vector<node> d_nodes;
    int d_now = -1;
    double d_read_s = 0.0; // what a look at the clock takes: much, on a virtual machine
    clock::time_point d_since;
};

} // namespace gr::deeprx
