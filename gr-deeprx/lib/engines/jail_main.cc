/* SPDX-License-Identifier: GPL-3.0-or-later */

// The program deeprx-jail: runs a stranger's model file in a process that can compute, and nothing
// else. jail_process starts it; nobody else needs to.

#include "built_in_model.h"
#include "jail_filter.h"
#include "jail_memory.h"
#include "local_engine.h"
#include "torch_archive.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <linux/futex.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gr::deeprx { namespace {

char* map_memory(int descriptor, int protection, int flags)
{
    struct stat about {
    };
    fstat(descriptor, &about);
    void* memory = mmap(nullptr, about.st_size, protection, flags, descriptor, 0);
    if (memory == MAP_FAILED)
        throw std::runtime_error("no memory in descriptor " + std::to_string(descriptor));
    return static_cast<char*>(memory);
}

//! A slot frees what the next one allocates: given back in between, its pages would fault anew.
void keep_freed_memory()
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20); // the most there is
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

class jail
{
public:
    jail()
        : d_memory(map_memory(jail_memory_descriptor, PROT_READ | PROT_WRITE, MAP_SHARED)),
          d_file(map_memory(jail_file_descriptor, PROT_READ, MAP_PRIVATE)),
          d_control(*reinterpret_cast<jail_control*>(d_memory)), d_layout(d_control.parameters),
          d_parameters(from(d_control.parameters))
    {
        d_parameters.grids = reinterpret_cast<float*>(d_memory + d_layout.grids);
        d_parameters.pilots = reinterpret_cast<float*>(d_memory + d_layout.pilots);
        d_parameters.llrs = reinterpret_cast<float*>(d_memory + d_layout.llrs);
    }

    //! \return whether it is shut
    bool shut()
    try {
        std::ofstream("/proc/self/oom_score_adj") << 1000; // not the receiver, where memory ends
        drop_capabilities();
        set_inference_threads(d_parameters.threads);
        inference_cpu_ns(); // starts them
        auto small = with_engine("auto");
        slot_config one_user = small.slot.config();
        one_user.users.resize(1);
        small.slot = slot_geometry(one_user);
        make_local_engine(model_archive(built_in_model(small.slot, small.n_rx)), small)
            ->warm_up({ 1 });
        give_up_rights(d_control.parameters.memory);
        answer(jail_status::done, "");
        return true;
    } catch (const std::exception& e) {
        answer(jail_status::failed, e.what());
        return false;
    }

    void serve()
    {
        for (uint32_t last = 1;; last++) {
            while (d_control.requests.load(std::memory_order_acquire) == last)
                syscall(SYS_futex, &d_control.requests, FUTEX_WAIT, last, nullptr);
            try {
                const auto text = act(d_control.operation, d_control.batch);
                answer(text ? jail_status::done : jail_status::none, text.value_or(""));
            } catch (const std::exception& e) {
                answer(jail_status::failed, one_line(e));
            }
        }
    }

private:
    static engine_parameters from(const jail_parameters& p)
    {
        slot_config slot;
        slot.n_prb = p.n_prb;
        slot.n_symbols = p.n_symbols;
        slot.dmrs.assign(p.dmrs, p.dmrs + p.n_dmrs);
        slot.cdm_groups = p.cdm_groups;
        slot.scs_khz = p.scs_khz;
        slot.users.resize(p.n_layers);
        for (int layer = 0; layer < p.n_layers; layer++) {
            slot.users[layer].port = p.ports[layer];
            slot.users[layer].modulation = p.modulations[layer];
        }
        return { slot_geometry(slot), p.n_rx, "cpu", p.threads, p.max_batch, p.engine };
    }

    engine_parameters with_engine(const std::string& name) const
    {
        auto all = d_parameters;
        all.engine = name;
        return all;
    }

    //! What comes with the answer; none: the file has no such method.
    std::optional<std::string> act(jail_operation operation, int batch)
    {
        if (operation == jail_operation::check) {
            vet_model(file(), d_parameters.slot, d_parameters.n_rx, false);
        } else if (operation == jail_operation::load) {
            d_engine = make_local_engine(file(), d_parameters);
            return d_engine->description();
        } else if (operation == jail_operation::prepare) {
            d_engine->prepare(batch);
        } else if (operation == jail_operation::estimate) {
            if (!estimate(batch))
                return std::nullopt;
        } else {
            infer(batch);
        }
        return "";
    }

    model_archive file() const
    {
        return model_archive(
            model_bytes(std::string_view(d_file, d_control.parameters.file_bytes)));
    }

    void infer(int batch)
    {
        const float* llr = d_engine->infer(batch);
        float* to = d_parameters.llrs;
        if (llr == to)
            return;
        const slot_geometry& slot = d_parameters.slot;
        const int bits = llr_bits(slot), stride = d_engine->llr_stride();
        const size_t elements = size_t(batch) * slot.n_layers() * slot.n_re();
        if (stride == bits) {
            std::copy_n(llr, elements * bits, to);
            return;
        }
        for (size_t i = 0; i < elements; i++, llr += stride, to += bits)
            std::copy_n(llr, bits, to);
    }

    //! \return whether the file does
    bool estimate(int batch)
    {
        const auto given = d_engine->estimate(batch);
        if (!given)
            return false;
        const size_t n_rx = d_parameters.n_rx, layers = d_parameters.slot.n_layers();
        std::copy_n(given->channel,
                    batch * layers * n_rx * d_parameters.slot.n_re() * 2,
                    reinterpret_cast<float*>(d_memory + d_layout.channels));
        std::copy_n(
            given->noise, batch * n_rx, reinterpret_cast<float*>(d_memory + d_layout.noise));
        return true;
    }

    void answer(jail_status status, const std::string& text)
    {
        d_control.text[text.copy(d_control.text, sizeof(d_control.text) - 1)] = '\0';
        d_control.status.store(status, std::memory_order_relaxed);
        d_control.answers.fetch_add(1, std::memory_order_release);
        syscall(SYS_futex, &d_control.answers, FUTEX_WAKE, 1);
    }

    char* const d_memory;
    const char* const d_file;
    jail_control& d_control;
    const jail_layout d_layout;
    engine_parameters d_parameters;
    std::unique_ptr<engine> d_engine;
};

}} // namespace gr::deeprx

//! argument: the process that started it, with which it ends
int main(int count, char** arguments)
try {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (count != 2 || getppid() != std::atoi(arguments[1]))
        return 2;
    gr::deeprx::keep_freed_memory();
    gr::deeprx::jail jail;
    if (!jail.shut())
        return 1;
    jail.serve();
} catch (const std::exception&) { // without memory that it could say it in
    return 1;
}
