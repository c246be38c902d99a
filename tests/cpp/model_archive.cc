/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_archive.h"
#include "model_info.h"
#include "raises.h"
#include "zip_archive.h"

#include "slot_of.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(model_archive_suite)

namespace {

const std::string shipped = MODELS "/baseline-lmmse.pt";

const auto slot = slot_of(26, "16QAM", { 2, 11 }, 0);

std::string shipped_bytes() { return std::string(read_model_file(shipped).view()); }

} // namespace

BOOST_AUTO_TEST_CASE(hashes_are_sha256)
{
    BOOST_TEST(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    BOOST_TEST(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

BOOST_AUTO_TEST_CASE(a_model_that_ships_is_accepted_and_written_out_anew)
{
    const model_archive archive(shipped_bytes());
    const auto info = stated_info(archive, slot, 2, false);
    BOOST_TEST(info.name == "baseline-lmmse");
    BOOST_TEST(info.sha256 == sha256(shipped_bytes()));
    BOOST_TEST(archive.extra_file("deeprx.json")->find("baseline-lmmse") != std::string::npos);
    BOOST_TEST(!archive.extra_file("no.json").has_value());
    const auto anew = archive.rewritten().text();
    BOOST_TEST(anew != shipped_bytes());
    BOOST_TEST(model_archive(anew).rewritten().text() == anew);
}

//! Opened without waiting: a FIFO that nobody writes to would wait for ever.
BOOST_AUTO_TEST_CASE(a_path_that_is_no_file_is_one_line)
{
    const auto refused = [](const std::string& path, const std::string& words) {
        check_raises<std::runtime_error>([&] { read_model_file(path); }, words);
    };
    refused(MODELS, "is a directory");
    refused(MODELS "/none.pt", "cannot be read: No such file");
    refused("/dev/zero", "is a pipe, socket or device");
    const auto fifo = std::filesystem::temp_directory_path() / ("fifo" + std::to_string(getpid()));
    BOOST_REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
    refused(fifo, "is a pipe, socket or device");
    std::filesystem::remove(fifo);
    std::ofstream(fifo).close();
    std::filesystem::resize_file(fifo, (uintmax_t{ 1 } << 30) + 1); // sparse
    refused(fifo, "bytes is not allowed");
    std::filesystem::remove(fifo);
}

BOOST_DATA_TEST_CASE(what_is_no_archive_is_refused,
                     boost::unit_test::data::make({ "", "PK", "PK\x05\x06", "<html>" }),
                     text)
{
    check_raises<std::runtime_error>([&] { model_archive{ std::string(text) }; },
                                     "not a TorchScript archive");
}

//! Cut anywhere, it is refused in one line and nothing worse.
BOOST_DATA_TEST_CASE(a_file_that_is_cut_short_is_refused,
                     boost::unit_test::data::xrange(1, 16),
                     sixteenths)
{
    auto bytes = shipped_bytes();
    bytes.resize(bytes.size() * sixteenths / 16);
    check_raises<std::exception>([&] { model_archive{ bytes }; }, "");
}

BOOST_AUTO_TEST_CASE(a_changed_byte_is_seen_by_its_checksum)
{
    auto bytes = shipped_bytes();
    const size_t at = bytes.find("\"baseline-lmmse\"");
    BOOST_REQUIRE(at != std::string::npos);
    bytes[at + 1] ^= 1;
    check_raises<std::runtime_error>([&] { model_archive{ bytes }; }, "has not the checksum");
}

namespace {

//! Kilobytes.
long of_this_process(const std::string& what)
{
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind(what, 0) == 0)
            return std::stol(line.substr(what.size()));
    return 0;
}

model_bytes with_long_storage()
{
    const auto small = read_model_file(ARCHIVES "/good/small.pt");
    std::map<std::string, std::string_view> records;
    std::list<std::string> inflated;
    for (const auto& record : read_zip(small.view()))
        records[record.name] = contents(record, inflated.emplace_back());
    const std::string storage(100000000, '\0');
    records["data/1"] = storage;
    return stored_zip(records).text();
}

} // namespace

//! The file's size and 64 MiB.
BOOST_DATA_TEST_CASE(a_verdict_takes_little_memory,
                     boost::unit_test::data::make({ true, false }),
                     largest)
{
    auto file = largest ? read_model_file(ARCHIVES "/good/largest.pt") : with_long_storage();
    malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << 5; // the peak starts anew
    const long before = of_this_process("VmRSS:");
    const model_archive archive(std::move(file));
    BOOST_TEST(of_this_process("VmHWM:") - before < 64 * 1024);
    BOOST_TEST(archive.sha256().size() == 64u);
}

//! tests/hostile/archives.py wrote them; Python's reader is asked about the same ones.
BOOST_AUTO_TEST_CASE(good_files_are_accepted_and_bad_ones_refused_in_one_line)
{
    size_t accepted = 0, refused = 0;
    for (const std::string kind : { "good", "bad" })
        for (const auto& file : std::filesystem::directory_iterator(ARCHIVES "/" + kind)) {
            BOOST_TEST_INFO(file.path());
            try {
                const model_archive archive(read_model_file(file.path()));
                const auto anew = archive.rewritten().text();
                BOOST_TEST(kind == "good", file.path() << " was accepted");
                BOOST_TEST(model_archive(anew).rewritten().text() == anew);
                accepted++;
            } catch (const std::runtime_error& e) {
                const std::string text = e.what();
                BOOST_TEST(kind == "bad", file.path() << ": " << text);
                BOOST_TEST(!text.empty());
                BOOST_TEST(std::all_of(text.begin(), text.end(), ::isprint), text);
                refused++;
            }
        }
    BOOST_TEST(accepted > 20u);
    BOOST_TEST(refused > 150u);
}

BOOST_AUTO_TEST_SUITE_END()
