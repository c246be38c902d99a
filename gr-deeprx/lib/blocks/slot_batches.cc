/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_batches.h"

#include <algorithm>
#include <utility>

namespace gr::deeprx {

slot_batches::slot_batches(int depth, int max_batch) : d_batches(depth)
{
    for (batch_in_work& batch : d_batches)
        batch.slots.resize(max_batch);
}

int slot_batches::slots() const
{
    int n = 0;
    for (int i = 0; i < d_under_way; i++)
        n += d_batches[i].n;
    return n;
}

void slot_batches::submitted(clock::time_point start)
{
    batch_in_work& batch = next();
    batch.alone = empty();
    batch.end = offset;
    batch.start = start;
    d_under_way++;
}

slot_batches::clock::duration slot_batches::collected(clock::time_point now)
{
    return now - std::max(oldest().start, std::exchange(d_collected, now));
}

int slot_batches::release()
{
    if (d_under_way == 1)
        return clear();
    const int done = oldest().end;
    std::rotate(d_batches.begin(), d_batches.begin() + 1, d_batches.end());
    d_under_way--;
    for (int i = 0; i < d_under_way; i++) {
        d_batches[i].end -= done;
        for (slot_in_work& slot : d_batches[i].slots)
            slot.offset -= done;
    }
    offset -= done;
    return done;
}

int slot_batches::clear()
{
    d_under_way = 0;
    return std::exchange(offset, 0);
}

} // namespace gr::deeprx
