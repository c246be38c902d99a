/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "weights_file.h"
#include "raises.h"

#include <boost/test/unit_test.hpp>

#include <cstring>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(weights_file_suite)

namespace {

std::string file_of(const std::string& json, size_t bytes)
{
    std::string file;
    for (int i = 0; i < 8; i++)
        file += static_cast<char>(static_cast<uint64_t>(json.size()) >> 8 * i);
    return file + json + std::string(bytes, '\0');
}

std::string entry(const std::string& name,
                  const std::string& shape,
                  const std::string& place,
                  const std::string& dtype = "F32")
{
    return '"' + name + R"(": {"dtype": ")" + dtype + R"(", "shape": [)" + shape +
           R"(], "data_offsets": [)" + place + "]}";
}

void check_refused(const std::string& file, const std::string& words)
{
    check_raises<std::runtime_error>([&] { read_weights(file); }, words);
}

} // namespace

BOOST_AUTO_TEST_CASE(tensors_are_where_the_file_says)
{
    auto file = file_of('{' + entry("b", "2, 3", "4, 28") + ", \"__metadata__\": {\"a\": \"b\"}, " +
                            entry("a", "", "0, 4") + ", " + entry("none", "0, 5", "28, 28") + ", " +
                            entry("half", "1", "28, 30", "BF16") + '}',
                        30);
    const float values[]{ 1, 2, 3, 4, 5, 6, 7 };
    std::memcpy(&file[file.size() - 30], values, sizeof(values));
    const auto tensors = read_weights(file);
    BOOST_REQUIRE(tensors.size() == 4u);
    const auto& b = tensors.at("b");
    BOOST_TEST(b.dtype == "F32");
    BOOST_TEST(b.shape == (std::vector<int64_t>{ 2, 3 }), boost::test_tools::per_element());
    BOOST_REQUIRE(b.bytes.size() == 24u);
    BOOST_TEST(std::memcmp(b.bytes.data(), values + 1, 24) == 0);
    BOOST_TEST(tensors.at("a").shape.empty());
    BOOST_TEST(tensors.at("none").bytes.empty());
    BOOST_TEST(tensors.at("half").bytes.size() == 2u);
}

BOOST_AUTO_TEST_CASE(what_is_cut_off_is_refused)
{
    const auto whole = file_of('{' + entry("a", "2", "0, 8") + '}', 8);
    read_weights(whole);
    for (size_t n = 0; n < whole.size(); n++)
        BOOST_CHECK_THROW(read_weights(std::string_view(whole).substr(0, n)), std::runtime_error);
    check_refused("", "weights.safetensors is cut off");
    check_refused(std::string(8, '\xff') + "{}", "is cut off");
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_together_is_refused)
{
    const auto one = [](const std::string& shape, const std::string& place, size_t bytes) {
        return file_of('{' + entry("a", shape, place) + '}', bytes);
    };
    check_refused(one("3", "0, 8", 8), "has other bytes of \"a\" than its shape and type say");
    check_refused(one("2", "0, 12", 8), "has a shape or place of \"a\" that is none");
    check_refused(one("2", "8, 0", 8), "has other bytes of \"a\"");
    check_refused(one("2", "0", 8), "has other bytes of \"a\"");
    check_refused(one("-2", "0, 8", 8), "has a shape or place of \"a\" that is none");
    check_refused(one("2.0", "0, 8", 8), "has a shape or place of \"a\" that is none");
    check_refused(one("2", "0, 8", 9), "has bytes of no tensor");
    check_refused(one("2", "1, 9", 9), "has bytes of no tensor");
    check_refused(one("268435456, 268435456, 268435456, 4", "0, 0", 0), "has more elements of");
    check_refused(one("0, 268435456, 268435456", "0, 4", 4), "has other bytes of \"a\"");
    check_refused(one("1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "0, 4", 4), "has a shape or place");
    check_refused(
        file_of('{' + entry("a", "2", "0, 8") + ", " + entry("b", "2", "4, 12") + '}', 12),
        "has tensors that overlap");
    check_refused(file_of('{' + entry("a", "2", "0, 8") + ", " + entry("b", "2", "0, 8") + '}', 8),
                  "has tensors that overlap");
    check_refused(file_of('{' + entry("a", "2", "0, 8", "F33") + '}', 8),
                  "has a type of \"a\" that is not known");
}

BOOST_AUTO_TEST_CASE(other_json_is_refused)
{
    check_refused(file_of("[]", 0), "weights.safetensors is not an object");
    check_refused(file_of("{", 0), "weights.safetensors is not JSON");
    check_refused(file_of("{\"a\": 3}", 0), "has \"a\" that is no tensor");
    check_refused(file_of("{\"a\": {\"shape\": [], \"data_offsets\": [0, 4]}}", 4), "has no dtype");
    const auto a = entry("a", "1", "0, 4");
    check_refused(file_of('{' + a + ", " + a + '}', 4), "has \"a\" twice");
    check_refused(file_of('{' + entry("\\u001b[2J", "1", "0, 4") + '}', 4),
                  "unprintable characters");
}

BOOST_AUTO_TEST_SUITE_END()
