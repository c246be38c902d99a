/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <gnuradio/block.h>
#include <gnuradio/deeprx/api.h>
#include <gnuradio/deeprx/engines.h>
#include <gnuradio/deeprx/slot_config.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief Turns received OFDM slots into soft bits (LLRs) with a receiver loaded from a model file.
 *
 * The model file decides what the receiver is: a neural network or a classical chain, as
 * TorchScript with a description of itself (contract "deeprx.model/2"). A file that is not trusted
 * runs in a jail: a process that can compute, and nothing else.
 *
 * Input: \p n_rx streams, one per antenna, of OFDM symbols as stock blocks pass them: vectors of
 * fft_size complex samples with DC in the middle; subcarrier k of the carrier sits at index
 * fft_size / 2 - 6 carrier_prb + k. A slot is 14 symbols, also where its allocation has fewer; its
 * first symbol carries the length tag with value 14 on stream 0. All streams are aligned item by
 * item. Their scale is arbitrary: the model sees each slot at about unit power.
 *
 * Output: a stream for each user of the slot, of float LLRs, log P(b=1)/P(b=0), in transmit bit
 * order (symbol by symbol, subcarriers ascending, pilots left out). One packet per slot: the length
 * tag is rewritten to the number of
 * bits, every other tag of the slot moves to its first LLR, and slot_index is added where the
 * input has none.
 *
 * A slot that cannot be received (length tag of another value or in the wrong place, NaN or
 * infinite samples or LLRs) is dropped, counted and reported; it disturbs no other slot. Symbols at
 * the end of the stream that do not fill a slot are discarded.
 *
 * Batches are greedy: as many slots as wait, at most \p max_batch, in sizes that were warmed up
 * (the powers of two and max_batch); the block never waits for more.
 *
 * Message port \b stats (out), one dictionary per slot: slot_index (uint64), inference_ns and
 * cpu_ns (uint64, the batch's wall and CPU time, worker threads and jail included, divided by its
 * slots),
 * engine_cpu_ns (uint64, on a CPU what of cpu_ns the inference itself took: the rest is the block's
 * own; on a GPU what it took to start it),
 * queue_depth (long, slots left waiting), batch (long), model, model_sha256 and engine (symbols;
 * the engine's says what computes, at which precision, with which instructions), flop_per_slot
 * (uint64, of the model at these parameters; 0: unknown). For a dropped slot: slot_index and
 * dropped (symbol, the reason). Where somebody listens to estimates, estimator (symbol) as there,
 * or a message of its own, {estimate_error: why}.
 *
 * Message port \b estimates (out), one dictionary per slot: slot_index (uint64), channel (c32vector
 * [layers][n_rx][symbols][subcarriers]) and noise (f32vector [n_rx], variance of noise and
 * interference in a RE), both at the scale of the input, and estimator (symbol): the model's name,
 * or sure-lmmse, the classical receiver that estimates where the model does not. It is no stream:
 * set_output_multiple() holds for all of a block's outputs, so that one of a vector for each slot
 * would need as large a buffer in slots as the LLRs' in bits. Nothing is computed where nobody
 * listens. While 64 MiB of messages are held, by who does not read or keeps them, those of further
 * slots are dropped, each with an estimate_error.
 *
 * Message port \b model (in): a symbol with the path of another model file, or a dictionary with
 * path and at_slot (uint64, first slot_index of the new model; absent: the next slot). It is
 * loaded, checked and warmed up beside the running one, which keeps working if anything is wrong.
 * The answer on \b stats is {model_loaded: name, model_sha256, engine} or {model_error: why}. One
 * request is loaded and one waits: a newer one replaces it, and its answer is {model_replaced:
 * which}. Each answer has the path that was asked for. What is no request is answered with a
 * model_error. The block's end waits for no load.
 *
 * The jail of a model that has one, a process of its own, may crash, hang or grow. Its slots are
 * dropped then, {model_lost: why} comes on \b stats, and the model gets a fresh jail beside the
 * running block, at most once a second and three times in all. After that its file is refused and
 * the model before it receives again; where there is none, the receiver ends (error()).
 */
class DEEPRX_API receiver : virtual public gr::block
{
public:
    using sptr = std::shared_ptr<receiver>;

    /*!
     * \param model path of the model file
     * \param slot what is received
     * \param n_rx antennas = input streams, 1 to 4
     * \param device "cpu", "cuda" or "cuda:<n>"; a missing GPU is an error, one that fails for good
     * ends the flowgraph. On a GPU, two batches are under way at once
     * \param threads CPU threads of one inference; native receives the slots of a batch on so many,
     * each slot on one. LibTorch has one number for the process: all receivers in it must agree.
     * They run on the cores of set_processor_affinity(), given before the flowgraph starts
     * \param max_batch most slots in one inference; the input queue holds at least twice as many,
     * on a GPU four times
     * \param max_latency_ms bound in milliseconds on a batch's computation: batches that were
     * measured to take longer are not formed (one slot always is); 0: no bound
     * \param len_tag_key key of the length tag, in and out
     * \param llr_sign 1, or -1 for log P(b=0)/P(b=1)
     * \param engine what computes: "native", "torchscript", "openvino", or "auto": native where the
     * model file is of a net that it knows; else, with one thread, OpenVINO where the file carries
     * it for this modulation and the library was built with it; both on the CPU
     * \param trust files that may run in this process, by what they hold now, or their SHA-256,
     * beside those that this build of gr-deeprx installs; any other model runs in a jail. Fixed for
     * the block's life
     * \param sealed a memfd with what the model file held where it was read before, as
     * check_model() takes it: model then only names it
     * \param jail what a jail of the block's may take; those of set_jail_limits() unless given
     *
     * \throws std::invalid_argument a parameter is out of range, or another receiver in this
     * process runs with another number of threads \throws std::runtime_error the model file is
     * missing, damaged or hostile, was made for other parameters, or the device is not there; this
     * process was forked from one that had loaded a model \throws jail_lost it crashed while the
     * model was loaded, or took too long
     */
    static sptr make(const std::string& model,
                     const slot_config& slot = {},
                     int n_rx = 2,
                     const std::string& device = "cpu",
                     int threads = 1,
                     int max_batch = 1,
                     double max_latency_ms = 10.0,
                     const std::string& len_tag_key = "packet_len",
                     int llr_sign = 1,
                     const std::string& engine = "auto",
                     const std::vector<std::string>& trust = {},
                     const std::optional<int>& sealed = std::nullopt,
                     const std::optional<jail_limits>& jail = std::nullopt);

    /*!
     * Changes to another model file while running, as a message to the port \b model does: returns
     * at once, the answer comes on \b stats.
     * \param model path of the model file
     * \param at_slot first slot_index of the new model; -1: the next slot
     */
    virtual void set_model(const std::string& model, int64_t at_slot = -1) = 0;

    //! Slots received so far.
    virtual uint64_t slots() const = 0;

    //! Slots, or runs of symbols that are no slot, dropped so far.
    virtual uint64_t dropped() const = 0;

    //! Why the receiver ended before its input did; empty: it did not. Blocks that nothing of it
    //! reaches run on: who has the flowgraph stops it.
    virtual std::string error() const = 0;

    //! What every receiver of the process calls, on its own thread, once its error() says why.
    static void watch_failures(void (*failed)());
};

} // namespace gr::deeprx
