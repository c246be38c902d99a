/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "harq_buffers.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace gr::deeprx {

namespace {

std::string in_words(const soft_block& block)
{
    return std::to_string(block.size) + " bits (base graph " + std::to_string(block.base_graph) +
           ", a soft buffer of " + std::to_string(block.soft_bits) + " LLRs)";
}

} // namespace

harq_buffers::harq_buffers(int most) : d_most(most)
{
    if (most < 1)
        throw std::invalid_argument("expected 1 soft buffer or more, got " + std::to_string(most));
}

std::list<harq_buffers::entry>::iterator harq_buffers::find(const harq_process& process)
{
    return std::find_if(
        d_entries.begin(), d_entries.end(), [&](const entry& e) { return e.process == process; });
}

void harq_buffers::flush(const harq_process& process)
{
    if (const auto there = find(process); there != d_entries.end()) {
        there->soft.transmissions = 0;
        d_entries.splice(d_entries.end(), d_entries, there);
    }
}

soft_buffer& harq_buffers::of(const harq_process& process, bool new_data, const soft_block& block)
{
    const auto found = find(process);
    const auto refuse = [&](const std::string& why) {
        throw std::invalid_argument("a retransmission of RNTI " + std::to_string(process.rnti) +
                                    ", process " + std::to_string(process.process) + ", " + why);
    };
    if (!new_data && (found == d_entries.end() || !found->soft.transmissions))
        refuse("of which there is no first transmission");
    if (!new_data && !(found->soft.block == block))
        refuse("of another block: expected " + in_words(found->soft.block) + ", got " +
               in_words(block));
    if (found != d_entries.end()) {
        d_entries.splice(d_entries.begin(), d_entries, found);
    } else {
        if (size() == d_most) {
            d_dropped += d_entries.back().soft.transmissions > 0;
            d_entries.pop_back();
        }
        d_entries.push_front({ process, {} });
    }
    soft_buffer& soft = d_entries.front().soft;
    if (new_data) {
        soft.block = block;
        soft.llr.assign(block.soft_bits, 0);
        soft.transmissions = 0;
    }
    soft.transmissions++;
    return soft;
}

} // namespace gr::deeprx
