/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pmt_values.h"
#include "first_texts.h"
#include "printable.h"

namespace gr::deeprx {

namespace {

constexpr int most_entries = 1000; // a list may bite its own tail

bool are_equal(pmt::pmt_t a, pmt::pmt_t b, int depth)
{
    for (int i = 0; pmt::is_pair(a) && pmt::is_pair(b); i++) {
        if (pmt::eq(a, b))
            return true;
        if (depth == 0 || i == most_entries || !are_equal(pmt::car(a), pmt::car(b), depth - 1))
            return false;
        a = pmt::cdr(a);
        b = pmt::cdr(b);
    }
    if (pmt::is_tuple(a) && pmt::is_tuple(b)) {
        const size_t n = pmt::length(a);
        bool equal = depth > 0 && n == pmt::length(b);
        for (size_t i = 0; equal && i < n; i++)
            equal = are_equal(pmt::tuple_ref(a, i), pmt::tuple_ref(b, i), depth - 1);
        return equal;
    }
    const auto is_flat = [](const pmt::pmt_t& value) {
        return !pmt::is_pair(value) && !pmt::is_tuple(value) && !pmt::is_vector(value);
    };
    return pmt::eq(a, b) || (is_flat(a) && is_flat(b) && pmt::equal(a, b));
}

} // namespace

std::string in_words(const pmt::pmt_t& value)
{
    constexpr size_t most = 100;
    if (pmt::is_null(value))
        return "an empty list or dictionary";
    if (pmt::is_symbol(value))
        return printable(pmt::symbol_to_string(value), most);
    if (pmt::is_number(value) || pmt::is_bool(value))
        return printable(pmt::write_string(value), most);
    if (pmt::is_dict(value))
        return "a dictionary";
    if (pmt::is_pair(value))
        return "a pair";
    if (pmt::is_blob(value) || pmt::is_uniform_vector(value) || pmt::is_vector(value))
        return "a vector";
    if (pmt::is_tuple(value))
        return "a tuple";
    return "something else";
}

pmt::pmt_t text_symbol(const std::string& text)
{
    static first_texts kept;
    const std::string line = printable(text);
    return pmt::intern(kept.put(line) == first_texts::place::none_left ? "see the log" : line);
}

bool are_equal(const pmt::pmt_t& a, const pmt::pmt_t& b) { return are_equal(a, b, 5); }

pmt::pmt_t entry(const pmt::pmt_t& dictionary, const pmt::pmt_t& key)
{
    pmt::pmt_t rest = dictionary;
    for (int i = 0; i < most_entries && pmt::is_pair(rest); i++, rest = pmt::cdr(rest))
        if (const auto pair = pmt::car(rest); pmt::is_pair(pair) && pmt::eq(pmt::car(pair), key))
            return pmt::cdr(pair);
    return pmt::PMT_NIL;
}

} // namespace gr::deeprx
