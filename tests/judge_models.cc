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

#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <unistd.h>

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
        std::optional<model_bytes> file;
        try {
            const model_archive archive(read_model_file(path));
            stated_info(archive, d_parameters.slot, d_parameters.n_rx, false);
            if (data_form_obstacle(archive, d_parameters).empty())
                return "";
            file = archive.bytes();
        } catch (const std::runtime_error&) {
            return "";
        }
        if (file->view().size() > largest)
            return "";
        try {
            put(file->view());
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
    //! Where the jail reads the file, which is not sealed here, and how much of it.
    void put(std::string_view file)
    {
        if (!d_jail || d_files++ == most_files) {
            d_jail = std::make_unique<jail_process>(d_memory, largest, d_parameters);
            d_files = 1;
        }
        auto* const control =
            reinterpret_cast<char*>(d_jail->grids()) - jail_layout(jail_parameters{}).grids;
        auto& parameters = reinterpret_cast<jail_control*>(control)->parameters;
        parameters.file_bytes = file.size();
        if (pwrite(d_memory, file.data(), file.size(), 0) != ssize_t(file.size()))
            throw std::runtime_error("no room for a file");
    }

    const engine_parameters d_parameters{ slot_of(6, "16QAM"), 2, "cpu", 1, 2, "auto", {}, limits };
    const int d_memory = sealed_memory(largest); // of the file
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
