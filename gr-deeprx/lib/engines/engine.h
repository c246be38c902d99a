/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include "model_bytes.h"
#include "model_info.h"
#include "slot_geometry.h"
#include "stage_clock.h"

#include <gnuradio/deeprx/engines.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace gr::deeprx {

//! What a receiver takes the channel and the noise of each slot of a batch for, at the grid's
//! scale.
struct estimates {
    const float* channel; // float32 [batch][n_layers][n_rx][n_symbols][n_subcarriers][2]
    const float* noise;   // variance of noise and interference in a RE, float32 [batch][n_rx]
};

/*!
 * \brief A loaded receiver: received grids and pilots in, LLRs out.
 *
 * Owns its input buffers, so that a batch is written where the inference reads it (pinned memory
 * for a GPU).
 *
 * Which call follows which:
 * 1. load_engine() gives an engine whose buffers hold something to warm up with.
 * 2. stay_bound(), if its inferences shall, on the thread that has the cores.
 * 3. warm_up() with every batch size that will be asked for; another size works, but slower.
 * 4. For each batch, grid() and pilots() of its slots are written, then submit() starts it: from
 *    then on these two are those of the next batch. While fewer than depth() are under way, another
 *    may be written and submitted. A submit() that threw started nothing.
 * 5. collect() ends the oldest batch, one call for each submit(), also where one of them threw. Its
 *    LLRs stay until the next submit(), collect() or infer().
 * infer() is a submit() with its collect(), while nothing is under way. Between collect() or
 * infer() and what comes next, estimate() may be called.
 *
 * Calls may come from one thread and later from another, but not from two at once: a receiver block
 * loads on one thread, and warms up where its scheduler works, as LibTorch's threads belong to the
 * thread that calls it, but for any_thread(): a flowgraph's start waits for no jail. A model that
 * is to take over is warmed up on the thread that loads it. After device_lost or jail_lost, calls
 * throw it again.
 */
class engine
{
public:
    virtual ~engine() = default;

    virtual const model_info& info() const = 0;

    //! What computes, at which precision, with which instructions: "TorchScript 2.13.0, bfloat16,
    //! AVX-512 BF16".
    virtual std::string description() const = 0;

    //! Received grid of a slot of the next batch, float32 [n_rx][n_symbols][n_subcarriers][2].
    virtual float* grid(int slot) = 0;

    //! Pilots of a slot of the next batch, float32 [n_layers][n_symbols][n_subcarriers][2]; slot
    //! 0's until written.
    virtual float* pilots(int slot) = 0;

    /*!
     * \brief Receives the first \p batch slots; complete when it returns.
     * \return LLRs, float32 [batch][n_layers][n_symbols][n_subcarriers][llr_stride()]
     * \throws std::runtime_error one line
     */
    virtual const float* infer(int batch) = 0;

    //! LLRs per resource element and layer that infer() gives: llr_bits() of the slot, or more.
    virtual int llr_stride() const = 0;

    //! How many batches may be under way at once.
    virtual int depth() const { return 1; }

    //! Starts the first \p batch slots. \throws as infer()
    virtual void submit(int batch) { d_llr = infer(batch); }

    //! Waits for the oldest batch under way. \return and \throws as infer()
    virtual const float* collect() { return d_llr; }

    /*!
     * \brief Estimates channel and noise of the batch that collect() has just ended.
     * \param batch slots of it
     * \return them, until the next call; none: the model has no such method
     * \throws as infer()
     */
    virtual std::optional<estimates> estimate(int /*batch*/) { return std::nullopt; }

    //! Receives the first slot \p calls times. \return what its stages took, of all calls; none:
    //! it knows of no stages \throws as infer()
    virtual std::vector<stage_clock::stage> time_stages(int /*calls*/) { return {}; }

    //! Whether every thread may receive with it once any has warmed it up.
    virtual bool any_thread() const { return false; }

    //! From now on inferences stay on the cores that the thread which calls them is bound to.
    virtual void stay_bound() {}

    //! CPU time in nanoseconds that a jail, or threads of its own, have used for it so far:
    //! what inference_cpu_ns() does not count.
    virtual uint64_t cpu_ns() const { return 0; }

    //! What loads the same bytes into another jail, also when this engine is gone; empty: it runs
    //! in this process.
    virtual std::function<std::unique_ptr<engine>()> renewal() const { return {}; }

    //! Gets ready for batches of this size: what compiles, compiles.
    virtual void prepare(int batch);

    /*!
     * \brief Runs each batch size until it is compiled and its buffers exist.
     * \return seconds that each takes, in the order of \p batch_sizes
     */
    std::vector<double> warm_up(const std::vector<int>& batch_sizes);

private:
    const float* d_llr = nullptr;
};

//! The device has failed and needs a new process, or more: nothing will be received on it.
class device_lost : public std::runtime_error
{
public:
    using std::runtime_error::runtime_error;
};

//! Those of the engines that this process makes from now on.
jail_limits& usual_jail_limits();

//! Null, or what a waiting thread calls: watch_jails().
std::atomic<void (*)()>& jail_watch();

//! Whether the calling thread is to end, where it knows: it does not wait long for a jail then.
using leave_asked = bool (*)();
leave_asked& this_thread_leaves();

//! LLRs that a resource element of any layer needs: the bits of the layers' largest modulation.
int llr_bits(const slot_geometry& slot);

struct engine_parameters {
    slot_geometry slot;
    int n_rx;
    std::string device; // "cpu", "cuda", "cuda:<n>"
    int threads;
    int max_batch;
    std::string engine; // "auto", "native", "torchscript", "openvino"

    std::vector<std::string> trust = {}; // sha256 of files that are trusted beside those that ship
    jail_limits jail = usual_jail_limits();
    //! Once true, what waits for a jail ends it and throws jail_lost.
    std::shared_ptr<const std::atomic<bool>> cancelled = {};

    //! Where a batch lies, as write_noise() fills it; null: in memory of the engine's own.
    float* grids = nullptr;
    float* pilots = nullptr;
    float* llrs = nullptr; // [max_batch][n_layers][n_symbols][n_subcarriers][llr_bits()]: an
                           // engine may put them there, where its program gives no more
};

/*!
 * \brief Loads a model file into the engine that was asked for; "auto": the fastest that the file
 * has for these slots on this machine. Or makes a receiver that needs no file, by its name:
 * is_classical().
 *
 * A trusted file runs in this process, any other in a jail, but for weights that are run as data.
 * Everything is checked before any code
 * of the file runs: its operators against an allow-list, and its deeprx.json against the
 * parameters.
 * \param bytes of the model file, where they were read before: it is not opened again
 * \throws std::invalid_argument device or engine is unknown
 * \throws std::runtime_error one line that names the file, what was expected and what was found
 */
std::unique_ptr<engine> load_engine(const std::string& model,
                                    const engine_parameters& parameters,
                                    const std::optional<model_bytes>& bytes = std::nullopt);

/*!
 * \brief Makes the checks of load_engine() on a model file's bytes, where it would run, and runs
 * nothing.
 * \throws std::runtime_error one line: what was expected and what was found
 */
void check_model_bytes(const model_bytes& bytes, const engine_parameters& parameters);

//! Of LibTorch; empty: the library was built without it.
std::string torchscript_version();

//! The line of an exception, TorchScript's and LibTorch's too, that names the cause.
std::string one_line(const std::exception& e);

/*!
 * \brief Calls what a model file may make fail.
 * \throws std::runtime_error one line that names the file
 */
void naming_file(const std::string& path, const std::function<void()>& act);

/*!
 * \brief Something to warm up with in buffers of max_batch slots: noise, and the pilots of slot 0.
 * \param grids float32 [max_batch][n_rx][n_symbols][n_subcarriers][2]
 * \param pilots float32 [max_batch][n_layers][n_symbols][n_subcarriers][2]
 */
void write_noise(const engine_parameters& parameters, float* grids, float* pilots);

/*!
 * \brief Refuses to go on in a fork() of the process that first came here, when a model was loaded:
 * OpenVINO's and LibTorch's threads are not there, and waiting for them would never end.
 * \throws std::runtime_error one line
 */
void expect_same_process();

//! Sets the number of CPU threads that an inference on the calling thread uses.
void set_inference_threads(int threads);

//! CPU time in nanoseconds that the calling thread and its inference workers have used so far.
uint64_t inference_cpu_ns();

} // namespace gr::deeprx
