/* SPDX-License-Identifier: GPL-3.0-or-later */

// Paths on lines of standard input. Of each model file, what a jail says that has said it of
// others: a jail for each costs a hundred times as much as most answers. "refused" and why;
// "unknown" where a jail of its own is to tell: nothing was refused, there is no need for a jail,
// or none was left.

#include "cpp/slot_of.h"
#include "data_form.h"
#include "jail_process.h"
#include "model_archive.h"
#include "model_info.h"

#include <cstring>
#include <iostream>
#include <memory>
#include <stdexcept>

namespace {

using namespace gr::deeprx;

constexpr size_t largest = 1 << 20; // bytes of a file
constexpr int most_files = 100;     // of a jail
constexpr jail_limits limits{ 2.0 * (1 << 30), 3.0, 1.0, 2.0 };

class judge
{
public:
    //! \return why it is refused; empty: unknown
    std::string operator()(const std::string& path)
    {
        std::string file;
        try {
            const model_archive archive(read_model_file(path));
            stated_info(archive, d_parameters.slot, d_parameters.n_rx, false);
            if (data_form_obstacle(archive, d_parameters).empty())
                return "";
            file = archive.rewritten();
        } catch (const std::runtime_error&) {
            return "";
        }
        if (file.size() > largest)
            return "";
        try {
            put(file);
            d_jail->call(jail_operation::load, 0, limits.load_s);
            for (int batch = 1; batch <= d_parameters.max_batch; batch++)
                d_jail->call(jail_operation::prepare, batch, limits.load_s);
        } catch (const jail_lost&) {
            d_jail.reset();
        } catch (const std::runtime_error& refusal) {
            return refusal.what();
        }
        return "";
    }

private:
    //! Where the jail reads the file, and how much of it.
    void put(const std::string& file)
    {
        if (!d_jail || d_files++ == most_files) {
            d_jail = std::make_unique<jail_process>(std::string(largest, '\0'), d_parameters);
            d_files = 1;
        }
        auto* const memory =
            reinterpret_cast<char*>(d_jail->grids()) - jail_layout(jail_parameters{}).grids;
        auto& parameters = reinterpret_cast<jail_control*>(memory)->parameters;
        std::memcpy(memory + jail_layout(parameters).file, file.data(), file.size());
        parameters.file_bytes = file.size();
    }

    const engine_parameters d_parameters{ slot_of(6, "16QAM"), 2, "cpu", 1, 2, "auto", {}, limits };
    std::unique_ptr<jail_process> d_jail;
    int d_files = 0;
};

} // namespace

int main()
{
    judge judge;
    for (std::string path; std::getline(std::cin, path);) {
        const auto why = judge(path);
        std::cout << (why.empty() ? "unknown" : "refused ") << why << std::endl;
    }
}
