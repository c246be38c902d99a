/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

namespace gr::deeprx {

//! What transmissions that are combined have in common.
struct soft_block {
    int size; // bits of the transport block
    int base_graph;
    size_t soft_bits; // of a buffer for it
    bool operator==(const soft_block& other) const
    {
        return size == other.size && base_graph == other.base_graph && soft_bits == other.soft_bits;
    }
};

//! What was received of a transport block so far.
struct soft_buffer {
    soft_block block;
    std::vector<int8_t> llr; // of each code block's circular buffer
    int transmissions = 0;
};

struct harq_process {
    int rnti, process;
    bool operator==(const harq_process& other) const
    {
        return rnti == other.rnti && process == other.process;
    }
};

//! \brief Soft buffers of the HARQ processes of many users, so many at most.
class harq_buffers
{
public:
    //! \throws std::invalid_argument if \p most is not positive
    explicit harq_buffers(int most = 256);

    /*!
     * \brief The buffer of a process, which from now on is its newest, for one more transmission;
     * zeros for new data.
     *
     * Where all are in use, the one longest not asked for is dropped.
     * \throws std::invalid_argument if it is not new data, and of this process there is nothing or
     * another block; then nothing changes
     */
    soft_buffer& of(const harq_process& process, bool new_data, const soft_block& block);

    //! New data of a process began, whether or not it can be received: what was there is gone.
    void flush(const harq_process& process);

    //! New data of any process may have begun.
    void clear() { d_entries.clear(); }

    int size() const { return static_cast<int>(d_entries.size()); }
    uint64_t dropped() const { return d_dropped; }

private:
    struct entry {
        harq_process process;
        soft_buffer soft;
    };

    const int d_most;
    std::list<entry>::iterator find(const harq_process& process);

    std::list<entry> d_entries; // newest first; those that were flushed keep their memory
    uint64_t d_dropped = 0;
};

} // namespace gr::deeprx
