/* SPDX-License-Identifier: GPL-3.0-or-later */

// Whose programs run in the receiver's own process.

#include "trusted.h"
#include "model_archive.h"
#include "raises.h"
#include "slot_of.h"

#include <filesystem>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(trusted_suite)

namespace {

const std::string shipped = MODELS "/baseline-lmmse.pt";

engine_parameters on(const std::string& device, const std::vector<std::string>& trust)
{
    engine_parameters p{ slot_of(26, "16QAM", { 2, 11 }, 0), 2, device, 1, 1, "auto" };
    p.trust = trust;
    return p;
}

//! A shipped program in a file that does not ship.
model_archive stranger()
{
    return model_archive(model_archive(read_model_file(shipped)).rewritten().text());
}

} // namespace

BOOST_AUTO_TEST_CASE(what_ships_is_trusted_and_what_lies_beside_it_is_not)
{
    for (const auto& file : std::filesystem::directory_iterator(MODELS))
        if (file.path().extension() == ".pt")
            BOOST_TEST(is_trusted(sha256(read_model_file(file.path()).view()), {}), file.path());
    BOOST_TEST(!is_trusted(stranger().sha256(), {}));
    BOOST_TEST(!runs_here(stranger(), on("cpu", {})));
    BOOST_TEST(runs_here(stranger(), on("cpu", { stranger().sha256() })));
}

BOOST_AUTO_TEST_CASE(a_gpu_has_no_jail)
{
    check_raises([] { runs_here(stranger(), on("cuda", {})); },
                 "is not trusted, and on a GPU there is no jail: device=\"cpu\" has one, --trust");
    BOOST_TEST(runs_here(stranger(), on("cuda", { stranger().sha256() })));
}

BOOST_AUTO_TEST_CASE(trust_is_given_as_files_or_as_their_sha256)
{
    const auto of_shipped = sha256(read_model_file(shipped).view());
    const std::string other(64, 'a');
    const auto hashes = hashes_of({ shipped, other, std::string(64, 'A') });
    BOOST_REQUIRE(hashes.size() == 3u);
    BOOST_TEST(hashes[0] == of_shipped);
    BOOST_TEST(hashes[1] == other);
    BOOST_TEST(hashes[2] == other);
    for (const auto& none : { std::string(63, 'a'),
                              std::string(64, 'g'),
                              std::string(64, '@'),
                              std::string("/dev/zero") })
        check_raises([&none] { hashes_of({ none }); }, "trusted file '" + none + "': ");
}

BOOST_AUTO_TEST_SUITE_END()
