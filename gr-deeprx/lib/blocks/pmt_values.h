/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <pmt/pmt.h>

#include <string>

namespace gr::deeprx {

// A stranger's value may be of any type and size and nested at any depth. pmt::write_string() and
// pmt::equal() go down all of it, as deep as the stack and beyond, and so does the exception that
// each accessor throws for another type: types are tested first.

//! For a line of text: numbers and texts as they are, but bounded and printable; of others the
//! kind.
std::string in_words(const pmt::pmt_t& value);

//! The symbol of a text that others choose, made printable. GNU Radio keeps each for ever: beyond
//! first_texts of the process, "see the log".
pmt::pmt_t text_symbol(const std::string& text);

//! Whether two are equal, as far as a few levels show.
bool are_equal(const pmt::pmt_t& a, const pmt::pmt_t& b);

//! What a dictionary has for a symbol; nil: nothing, or it is no dictionary.
pmt::pmt_t entry(const pmt::pmt_t& dictionary, const pmt::pmt_t& key);

} // namespace gr::deeprx
