/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "json_check.h"
#include "model_rules.h"
#include "printable.h"

#include <nlohmann/json.hpp>

#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

namespace gr::deeprx {

namespace {

using nlohmann::json;

class checker : public nlohmann::json_sax<json>
{
public:
    explicit checker(const std::string& what) : d_what(what) {}

    [[noreturn]] void refuse(const std::string& why) const
    {
        throw std::runtime_error(d_what + ' ' + why);
    }

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool binary(binary_t&) override { return false; }
    bool string(string_t& text) override
    {
        check_text(text);
        return true;
    }
    bool key(string_t& name) override
    {
        check_text(name);
        if (!d_keys.back().insert(name).second)
            refuse("has " + json(name).dump(-1, ' ', true).substr(0, 80) + " twice");
        return true;
    }
    bool start_object(size_t) override { return enter(); }
    bool end_object() override { return leave(); }
    bool start_array(size_t) override { return enter(); }
    bool end_array() override { return leave(); }
    bool parse_error(size_t, const std::string&, const json::exception& e) override
    {
        const std::string what = e.what();       // "[json.exception...] parse error at line 1, ..."
        const size_t start = what.find(']') + 2; // what was read last may be anything
        refuse("is not JSON: " + what.substr(start, what.find("; last read") - start));
    }

private:
    void check_text(const std::string& text) const
    {
        if (!has_printable_lines(text))
            refuse("has unprintable characters in a text");
    }
    bool enter()
    {
        if (d_keys.size() == rules().json_depth)
            refuse("is nested more than " + std::to_string(rules().json_depth) + " levels deep");
        d_keys.emplace_back();
        return true;
    }
    bool leave()
    {
        d_keys.pop_back();
        return true;
    }

    const std::string d_what;
    std::vector<std::unordered_set<std::string>> d_keys; // of each object and array that is open
};

} // namespace

void check_json(std::string_view text, const std::string& what)
{
    checker rules_of_json(what);
    if (text.size() > rules().json_bytes)
        rules_of_json.refuse("is longer than " + std::to_string(rules().json_bytes) + " bytes");
    if (text.substr(0, 3) == "\xef\xbb\xbf")
        rules_of_json.refuse("is not JSON: it begins with a byte order mark");
    if (text.find('\0') != text.npos) // which the parser takes for the end
        rules_of_json.refuse("is not JSON: it holds a byte of zero");
    const auto first = text.find_first_not_of(" \t\r\n");
    json::sax_parse(text.begin(), text.end(), &rules_of_json);
    if (text[first] != '{')
        rules_of_json.refuse("is not an object");
}

} // namespace gr::deeprx
