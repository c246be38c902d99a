/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/tags.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace gr::deeprx {

//! A slot of the input buffers, on its way.
struct slot_in_work {
    uint64_t index = 0;
    int offset = 0;      // items behind the read pointer
    float factor = 0.0f; // that its samples were multiplied by for the engine
    std::vector<tag_t> tags;
    bool received = false;
};

//! Slots that the engine receives together.
struct batch_in_work {
    std::vector<slot_in_work> slots; // [max_batch], kept for its memory
    int n = 0;                       // slots in it
    int size = 0;                    // of the engine's batch, a position in batch_sizes
    int queued = 0;                  // slots that waited behind it
    uint64_t engine_cpu_ns = 0;      // that its submission took, if somebody listens
    bool alone = false;              // nothing was under way before it
    int end = 0;                     // first item behind it, as offsets of slots
    std::chrono::steady_clock::time_point start;
};

/*!
 * \brief The batches that are under way, and how much of the input they and what was dropped take.
 *
 * Input is consumed when its LLRs are out: at the end of the stream, what is under way is still
 * waiting input, and the scheduler calls again.
 */
class slot_batches
{
public:
    using clock = std::chrono::steady_clock;

    //! \param depth most batches under way
    slot_batches(int depth, int max_batch);

    bool empty() const { return d_under_way == 0; }
    bool full() const { return d_under_way == static_cast<int>(d_batches.size()); }
    int slots() const; // under way

    //! The batch to be filled, behind those under way.
    batch_in_work& next() { return d_batches[d_under_way]; }

    //! It is on its way; what it takes ends at offset.
    void submitted(clock::time_point start);

    //! The oldest under way.
    batch_in_work& oldest() { return d_batches[0]; }

    /*!
     * \brief The oldest has its LLRs.
     * \return what it took: of the time that two batches were under way, each has its part
     */
    clock::duration collected(clock::time_point now);

    //! The oldest is done with. \return items that can be consumed
    int release();

    //! Nothing is under way any more. \return items that can be consumed
    int clear();

    int offset = 0; // items behind the read pointer that are under way or dropped

private:
    std::vector<batch_in_work> d_batches; // [depth], those under way first, in order
    int d_under_way = 0;
    clock::time_point d_collected{}; // when the last one was
};

} // namespace gr::deeprx
