/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "model_archive.h"
#include "raises.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <cstdio>
#include <fstream>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(model_archive_suite)

namespace {

const std::string shipped = MODELS "/baseline-lmmse.pt";

const slot_geometry slot(26, "16QAM", { 2, 11 }, 1, 0);

std::string shipped_bytes() { return model_archive::open(shipped)->bytes(); }

model_info vetted(const std::string& bytes)
{
    return vetted_info(std::make_shared<model_archive>(bytes), slot, 2, false);
}

} // namespace

BOOST_AUTO_TEST_CASE(hashes_are_sha256)
{
    BOOST_TEST(model_archive("abc").sha256() ==
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    BOOST_TEST(model_archive("").sha256() ==
               "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

BOOST_AUTO_TEST_CASE(a_model_that_ships_is_read_once_and_whole)
{
    const auto archive = model_archive::open(shipped);
    const auto info = vetted_info(archive, slot, 2, false);
    BOOST_TEST(info.name == "baseline-lmmse");
    BOOST_TEST(info.sha256 == archive->sha256());
    BOOST_TEST(extra_file(archive, "deeprx.json")->find("baseline-lmmse") != std::string::npos);
    BOOST_TEST(!extra_file(archive, "no.json").has_value());

    char buffer[8] = {};
    const size_t size = archive->size();
    BOOST_TEST(archive->read(0, buffer, 2, "") == 2u);
    BOOST_TEST(std::string(buffer) == "PK");
    BOOST_TEST(archive->read(size - 3, buffer, 8, "") == 3u); // what is there
    BOOST_TEST(archive->read(size, buffer, 8, "") == 0u);
    BOOST_TEST(archive->read(~uint64_t{ 0 }, buffer, 8, "") == 0u);
}

BOOST_AUTO_TEST_CASE(a_path_that_is_no_file_is_one_line)
{
    check_raises<std::runtime_error>([] { model_archive::open(MODELS); }, "is a directory");
    check_raises<std::runtime_error>([] { model_archive::open(MODELS "/none.pt"); },
                                     "cannot be read: No such file");
}

BOOST_DATA_TEST_CASE(what_is_no_archive_is_refused,
                     boost::unit_test::data::make({ "", "PK", "PK\x05\x06", "<html>" }),
                     text)
{
    check_raises<std::runtime_error>([&] { vetted(text); }, "not a TorchScript archive");
}

//! Cut anywhere, it is refused in one line and nothing worse.
BOOST_DATA_TEST_CASE(a_file_that_is_cut_short_is_refused,
                     boost::unit_test::data::xrange(1, 16),
                     sixteenths)
{
    auto bytes = shipped_bytes();
    bytes.resize(bytes.size() * sixteenths / 16);
    check_raises<std::exception>([&] { vetted(bytes); }, "");
}

BOOST_AUTO_TEST_CASE(a_changed_byte_is_seen_by_its_checksum)
{
    auto bytes = shipped_bytes();
    const size_t at = bytes.find("\"baseline-lmmse\"");
    BOOST_REQUIRE(at != std::string::npos);
    bytes[at + 1] ^= 1;
    check_raises<std::runtime_error>([&] { vetted(bytes); }, "has not the checksum");
}

BOOST_AUTO_TEST_SUITE_END()
