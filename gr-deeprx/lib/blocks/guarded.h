/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "line_pace.h"
#include "pmt_values.h"

namespace gr::deeprx {

/*!
 * \brief A block that goes on when a message to GNU Radio's own port "system" makes no sense:
 * there it would throw, which ends the block's thread and nothing else, or print all of it.
 */
template <typename Block>
class guarded : public Block
{
protected:
    void dispatch_msg(pmt::pmt_t port, pmt::pmt_t message) override
    {
        static const pmt::pmt_t system_port = pmt::mp("system");
        static const pmt::pmt_t done = pmt::mp("done"); // all that GNU Radio sends there
        if (!pmt::eq(port, system_port) ||
            (pmt::is_pair(message) && pmt::eq(pmt::car(message), done) &&
             pmt::is_integer(pmt::cdr(message)))) {
            Block::dispatch_msg(port, message);
            return;
        }
        if (const uint64_t n = d_lines.count())
            this->d_logger->warn("a message to the port system must be (done . 1), got {:s} ({:d} "
                                 "since the last line)",
                                 in_words(message),
                                 n);
    }

private:
    line_pace d_lines;
};

} // namespace gr::deeprx
