/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "code_check.h"
#include "model_rules.h"

#include <cctype>
#include <stdexcept>
#include <string>
#include <vector>

namespace gr::deeprx {

namespace {

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error("refused, " + what + " is not allowed in a model's code");
}

//! Where a string that begins at \p at has ended.
size_t end_of_string(std::string_view source, size_t at)
{
    const char quote = source[at];
    if (source.substr(at, 3) == std::string(3, quote))
        refuse("a string of several lines");
    for (size_t i = at + 1; i < source.size() && source[i] != '\n'; i++) {
        if (source[i] == quote)
            return i + 1;
        i += source[i] == '\\';
    }
    refuse("a string without an end");
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

//! A word that makes an expression one level deeper.
bool is_operator(std::string_view word)
{
    for (const auto other : { "and", "or", "not", "if", "else", "in", "is", "lambda" })
        if (word == other)
            return true;
    return false;
}

} // namespace

void check_code(std::string_view source)
{
    // How many operators stand in an expression of each bracket that is open: its tree is no deeper
    struct bracket {
        char closing;
        size_t operators;
    };
    std::vector<bracket> open{ { '\0', 0 } };
    size_t depth = 0, indent = 0;
    bool line_start = true;
    const auto deeper = [&] {
        open.back().operators++;
        if (++depth > rules().code_depth)
            refuse("an expression nested more than " + std::to_string(rules().code_depth) +
                   " levels deep");
    };
    const auto reset = [&] {
        depth -= open.back().operators;
        open.back().operators = 0;
    };
    for (size_t i = 0; i < source.size();) {
        const char c = source[i];
        if (line_start && c == ' ') {
            if (++indent > rules().code_indent)
                refuse("an indentation of more than " + std::to_string(rules().code_indent));
            i++;
            continue;
        }
        line_start = false;
        if (c == '\n') {
            if (open.size() == 1)
                reset();
            indent = 0;
            line_start = true;
            i++;
        } else if (c == '"' || c == '\'') {
            i = end_of_string(source, i);
        } else if (is_word(c)) {
            const size_t start = i;
            while (i < source.size() && is_word(source[i]))
                i++;
            const auto word = source.substr(start, i - start);
            if (word == "elif")
                refuse("elif");
            if (is_operator(word))
                deeper();
        } else if (c == '(' || c == '[' || c == '{') {
            deeper();
            open.push_back({ c == '(' ? ')' : c == '[' ? ']' : '}', 0 });
            i++;
        } else if (c == ')' || c == ']' || c == '}') {
            if (open.back().closing != c)
                refuse("a bracket without its other");
            reset();
            open.pop_back();
            i++;
        } else if (c == ',' || c == ':') {
            reset();
            i++;
        } else if (c == ' ') {
            i++;
        } else if (std::string_view("+-*/%@&|^~<>=!.").find(c) != std::string_view::npos) {
            deeper();
            i++;
        } else {
            refuse("the character " + std::to_string(static_cast<unsigned char>(c)));
        }
    }
    if (open.size() != 1)
        refuse("a bracket without its other");
}

} // namespace gr::deeprx
