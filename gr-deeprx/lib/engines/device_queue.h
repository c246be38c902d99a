/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace gr::deeprx {

/*!
 * \brief What a device is to do, in order, beside the thread that says so.
 *
 * An accelerator's stream. The tests put a thread in its place, so that what feeds it is tested
 * without one.
 */
class device_queue
{
public:
    using work = std::function<void()>;

    virtual ~device_queue() = default;

    //! Starts \p task, which issues operators on the device's current stream.
    virtual void run(const work& task) = 0;

    /*!
     * \brief Records the operators that \p task issues, and does not do them.
     * \return starts them all at once, by run(); this queue's recordings share their memory
     * \throws std::exception the device, LibTorch or one of the operators cannot
     */
    virtual work record(const work& task) = 0;

    //! Waits until everything that was run is done. \throws device_lost, std::runtime_error
    virtual void wait() = 0;
};

/*!
 * \brief A stream of a GPU of its own; recordings are CUDA graphs.
 *
 * Made of what every LibTorch has, whether it was built with CUDA or not.
 */
std::unique_ptr<device_queue> make_stream_queue(c10::Device device);

} // namespace gr::deeprx
