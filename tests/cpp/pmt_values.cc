/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pmt_values.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <limits>
#include <ostream>

using namespace gr::deeprx;

BOOST_AUTO_TEST_SUITE(pmt_values_suite)

namespace {

const pmt::pmt_t a = pmt::mp("a");

pmt::pmt_t nested(int depth)
{
    pmt::pmt_t value = pmt::PMT_NIL;
    for (int i = 0; i < depth; i++)
        value = pmt::cons(value, pmt::PMT_NIL);
    return value;
}

pmt::pmt_t dict(const pmt::pmt_t& value) { return pmt::dict_add(pmt::make_dict(), a, value); }

struct words {
    pmt::pmt_t value;
    std::string text;
};

std::ostream& operator<<(std::ostream& out, const words& w) { return out << w.text; }

const words all_words[]{
    { pmt::PMT_NIL, "an empty list or dictionary" },
    { pmt::make_dict(), "an empty list or dictionary" },
    { pmt::PMT_T, "#t" },
    { pmt::from_long(-7), "-7" },
    { pmt::from_uint64(std::numeric_limits<uint64_t>::max()), "18446744073709551615" },
    { pmt::from_double(std::numeric_limits<double>::quiet_NaN()), "nan" },
    { pmt::from_complex(1, -2), "1+-2i" },
    { a, "a" },
    { pmt::mp("\x1b[31m\n"), "?[31m" },
    { pmt::mp(std::string(1000, 'x')), std::string(97, 'x') + "..." },
    { dict(a), "a dictionary" },
    { pmt::cons(a, a), "a pair" },
    { nested(50000), "a pair" },
    { pmt::make_tuple(a, a), "a tuple" },
    { pmt::make_vector(3, a), "a vector" },
    { pmt::make_u8vector(1000000, 27), "a vector" },
    { pmt::make_blob("a", 1), "a vector" },
    { pmt::PMT_EOF, "a pair" },
    { pmt::make_any(7), "something else" },
};

struct two {
    const char* what;
    pmt::pmt_t a, b;
    bool equal;
};

std::ostream& operator<<(std::ostream& out, const two& t) { return out << t.what; }

const two pairs_of_values[]{
    { "numbers", pmt::from_long(1), pmt::from_long(1), true },
    { "other numbers", pmt::from_long(1), pmt::from_long(2), false },
    { "numbers of other types", pmt::from_long(1), pmt::from_double(1), false },
    { "symbols", pmt::mp("a"), a, true },
    { "times",
      pmt::make_tuple(pmt::from_uint64(7), pmt::from_double(0.5)),
      pmt::make_tuple(pmt::from_uint64(7), pmt::from_double(0.5)),
      true },
    { "other times",
      pmt::make_tuple(pmt::from_uint64(7), pmt::from_double(0.5)),
      pmt::make_tuple(pmt::from_uint64(7), pmt::from_double(0.6)),
      false },
    { "dictionaries", dict(pmt::from_long(1)), dict(pmt::from_long(1)), true },
    { "other dictionaries", dict(pmt::from_long(1)), dict(pmt::from_long(2)), false },
    { "a longer list", pmt::list2(a, a), pmt::list3(a, a, a), false },
    { "vectors", pmt::make_f32vector(3, 1), pmt::make_f32vector(3, 1), true },
    { "other vectors", pmt::make_f32vector(3, 1), pmt::make_f32vector(3, 2), false },
    { "another kind", pmt::PMT_NIL, pmt::make_tuple(), false },
    { "too deep to tell", nested(50000), nested(50000), false },
};

} // namespace

BOOST_DATA_TEST_CASE(values_in_words, boost::unit_test::data::make(all_words), w)
{
    BOOST_TEST(in_words(w.value) == w.text);
}

BOOST_DATA_TEST_CASE(what_is_equal, boost::unit_test::data::make(pairs_of_values), pair)
{
    BOOST_TEST(are_equal(pair.a, pair.b) == pair.equal);
    BOOST_TEST(are_equal(pair.b, pair.a) == pair.equal);
    BOOST_TEST(are_equal(pair.a, pair.a));
}

BOOST_AUTO_TEST_CASE(an_entry_is_one_of_a_dictionary)
{
    BOOST_CHECK(pmt::eq(entry(dict(a), a), a));
    BOOST_CHECK(pmt::is_null(entry(dict(a), pmt::mp("b"))));
    for (const auto& [value, text] : all_words)
        if (text != "a dictionary")
            BOOST_CHECK(pmt::is_null(entry(value, a)));
    const auto ring = pmt::cons(pmt::PMT_NIL, pmt::PMT_NIL);
    pmt::set_cdr(ring, ring);
    BOOST_CHECK(pmt::is_null(entry(ring, a)));
    BOOST_TEST(are_equal(ring, ring));
    pmt::set_cdr(ring, pmt::PMT_NIL);
}

BOOST_AUTO_TEST_SUITE_END()
