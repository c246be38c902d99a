/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/deeprx/api.h>
#include <gnuradio/deeprx/engines.h>
#include <gnuradio/deeprx/slot_config.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gr::deeprx {

class engine;
class slot_geometry;
class thread_claim;

/*!
 * \brief What computes inside a receiver block, without the block: to check its LLRs, to time it.
 *
 * Used by one thread, the one that made it.
 */
class DEEPRX_API bare_engine
{
public:
    //! What a call took, in seconds: wall time, and CPU time with its worker threads.
    struct duration {
        double wall;
        double cpu;
    };

    //! A part of a slot: means of a slot. FLOP, and bytes that come in and go out, are counted from
    //! shapes; seconds are without those of the stages in it.
    struct stage {
        std::string name; // with that of what it is in: "round: sum"
        std::string precision;
        double calls, flop, bytes, seconds;
    };

    //! Parameters and exceptions are those of receiver::make(). \param sealed the model file's
    //! bytes where they were read before, as check_model() takes them: model then only names it.
    bare_engine(const std::string& model,
                const slot_config& slot,
                int n_rx,
                const std::string& device,
                int threads,
                int max_batch,
                const std::string& engine,
                const std::vector<std::string>& trust,
                const std::optional<int>& sealed = std::nullopt,
                const std::optional<jail_limits>& jail = std::nullopt);
    ~bare_engine();

    //! The model's name.
    const std::string& name() const;

    //! What computes, at which precision, with which instructions.
    std::string description() const;

    //! LLRs per resource element and layer that infer() gives: the modulation's bits, or more.
    int llr_stride() const;

    /*!
     * \param y received grids, float32 [batch][n_rx][n_symbols][12 n_prb][2]
     * \param p their pilots, float32 [batch][n_layers][n_symbols][12 n_prb][2]
     * \param batch slots, 1 to max_batch
     * \return LLRs, float32 [batch][n_layers][n_symbols][12 n_prb][llr_stride], valid until the
     * next call
     * \throws std::runtime_error one line; also where a slot's LLRs are not all finite, which every
     * receiver drops, and where its jail was lost: the next call has a fresh one, as often as a
     * receiver's file gets one
     */
    const float* infer(const float* y, const float* p, int batch);

    //! Receives \p batch slots of what the input buffers hold, \p calls times.
    std::vector<duration> time(int calls, int batch);

    //! Receives one slot of them \p calls times, and times its stages; none: the engine knows of
    //! none, as it is not native.
    std::vector<stage> time_stages(int calls);

private:
    class jails_of_file;

    void expect_finite(const float* llrs, int batch);
    void renew();

    const std::unique_ptr<const slot_geometry> d_slot;
    std::vector<float> d_data_llrs; // of a layer
    size_t d_grid_floats;           // of a slot
    size_t d_pilot_floats;          // of a slot
    const std::unique_ptr<thread_claim> d_threads;
    std::unique_ptr<engine> d_engine;
    std::vector<int> d_batches; // to warm it up with
    bool d_jail_lost = false;
    std::shared_ptr<jails_of_file> d_jails;
};

} // namespace gr::deeprx
