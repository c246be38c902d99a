/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "pickle_check.h"
#include "model_rules.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

namespace gr::deeprx {

namespace {

[[noreturn]] void refuse(const std::string& what)
{
    throw std::runtime_error("refused, a pickle with " + what + " is not allowed in a model");
}

enum class kind : uint8_t {
    none,
    boolean,
    integer,
    real,
    text,
    list,
    tuple,
    dict,
    name,    // of a function or class
    unbuilt, // an object whose state is to come
    object,
    storage,
    tensor
};

struct value {
    kind is;
    uint8_t depth = 1;
    bool used = false;          // stands in another value: it must not change any more
    uint32_t expanded = 1;      // values that it is made of, those counted twice that stand twice
    int64_t number = 0;         // integer; storage, tensor: elements; list: 1 + another that it is
    std::string_view text = {}; // text, name
    std::vector<uint32_t> items = {};
};

using id = uint32_t;

//! One pickle on its way through the unpickler's stack.
class pickle_check
{
public:
    pickle_check(std::string_view pickle,
                 const std::function<std::optional<size_t>(const std::string&)>& record_size)
        : d_pickle(pickle), d_record_size(record_size)
    {
    }

    void run()
    {
        if (d_pickle.substr(0, 2) != std::string_view("\x80\x02", 2))
            refuse("a protocol other than 2");
        d_at = 2;
        while (step())
            ;
        if (d_stack.size() != 1 || !d_marks.empty() || d_at != d_pickle.size())
            refuse("more, or less, than one value");
        const kind last = d_values[d_stack[0]].is;
        if (last != kind::object && last != kind::tuple)
            refuse("another value than an object or a tuple");
    }

private:
    bool step()
    {
        switch (const char opcode = take(1)[0]) {
        case '.':
            return false;
        case '(':
            d_marks.push_back(d_stack.size());
            break;
        case 'N':
            push({ kind::none });
            break;
        case '\x88':
        case '\x89':
            push({ kind::boolean });
            break;
        case 'K':
            push_integer(static_cast<int64_t>(number(1)));
            break;
        case 'M':
            push_integer(static_cast<int64_t>(number(2)));
            break;
        case 'J':
            push_integer(static_cast<int32_t>(number(4)));
            break;
        case '\x8a':
            if (number(1) != 8)
                refuse("an integer of other than 8 bytes");
            push_integer(static_cast<int64_t>(number(8)));
            break;
        case 'G':
            take(8);
            push({ kind::real });
            break;
        case 'X': {
            value v{ kind::text };
            v.text = take(number(4));
            push(std::move(v));
            break;
        }
        case ')':
            push({ kind::tuple });
            break;
        case ']':
            push({ kind::list });
            break;
        case '}':
            push({ kind::dict });
            break;
        case 't':
            push_tuple(since_mark());
            break;
        case '\x85':
        case '\x86':
        case '\x87':
            push_tuple(pop_many(static_cast<unsigned char>(opcode) - 0x84));
            break;
        case 'a':
            extend(pop_many(1), kind::list);
            break;
        case 'e':
            extend(since_mark(), kind::list);
            break;
        case 's':
            extend(pop_many(2), kind::dict);
            break;
        case 'u':
            extend(since_mark(), kind::dict);
            break;
        case 'c': {
            value v{ kind::name };
            v.text = qualified_name();
            push(std::move(v));
            break;
        }
        case 'R':
            reduce();
            break;
        case '\x81':
            new_object();
            break;
        case 'b':
            build();
            break;
        case 'Q':
            storage();
            break;
        case 'q':
            put(number(1));
            break;
        case 'r':
            put(number(4));
            break;
        case 'h':
            get(number(1));
            break;
        case 'j':
            get(number(4));
            break;
        default:
            refuse("the opcode " + std::to_string(static_cast<unsigned char>(opcode)));
        }
        return true;
    }

    std::string_view take(size_t size)
    {
        if (size > d_pickle.size() - d_at)
            refuse("an end before its end");
        d_at += size;
        return d_pickle.substr(d_at - size, size);
    }

    uint64_t number(int size)
    {
        const auto field = take(size);
        uint64_t n = 0;
        for (int i = size - 1; i >= 0; i--)
            n = n << 8 | static_cast<unsigned char>(field[i]);
        return n;
    }

    //! "module\nname\n" as it is in the pickle: module.name once dots() has it.
    std::string_view qualified_name()
    {
        const size_t start = d_at;
        for (int lines = 0; lines < 2;)
            lines += take(1)[0] == '\n';
        return d_pickle.substr(start, d_at - start - 1);
    }

    static std::string dots(std::string_view name)
    {
        std::string text(name);
        std::replace(text.begin(), text.end(), '\n', '.');
        return text;
    }

    void push(value v)
    {
        if (d_values.size() >= rules().pickle_values)
            refuse("more than " + std::to_string(rules().pickle_values) + " values");
        d_values.push_back(std::move(v));
        d_stack.push_back(static_cast<id>(d_values.size() - 1));
    }

    void push_integer(int64_t n)
    {
        value v{ kind::integer };
        v.number = n;
        push(std::move(v));
    }

    //! The last ones on the stack, none of which stands before the last mark.
    std::vector<id> pop_many(size_t n)
    {
        const size_t floor = d_marks.empty() ? 0 : d_marks.back();
        if (d_stack.size() < floor + n)
            refuse("an opcode that finds too few values");
        std::vector<id> last(d_stack.end() - n, d_stack.end());
        d_stack.resize(d_stack.size() - n);
        return last;
    }

    std::vector<id> since_mark()
    {
        if (d_marks.empty())
            refuse("an opcode that finds no mark");
        auto items = pop_many(d_stack.size() - d_marks.back());
        d_marks.pop_back();
        return items;
    }

    value& pop() { return d_values[pop_many(1)[0]]; }

    //! Makes items part of a value.
    void include(value& whole, const std::vector<id>& items)
    {
        for (const id item : items) {
            value& v = d_values[item];
            if (v.is == kind::unbuilt)
                refuse("an object without its state");
            v.used = true;
            whole.depth = std::max<uint8_t>(whole.depth, v.depth + 1);
            if (whole.depth > rules().pickle_depth)
                refuse("values nested more than " + std::to_string(rules().pickle_depth) +
                       " levels deep");
            whole.expanded += v.expanded;
            if (whole.expanded > rules().pickle_expanded)
                refuse("more than " + std::to_string(rules().pickle_expanded) +
                       " values, those that stand twice counted twice");
        }
    }

    void push_tuple(std::vector<id> items)
    {
        value v{ kind::tuple };
        include(v, items);
        v.items = std::move(items);
        push(std::move(v));
    }

    //! Appends to the list or dictionary that is the last on the stack.
    void extend(const std::vector<id>& items, kind container)
    {
        const id last = pop_many(1)[0];
        value& v = d_values[last];
        if (v.is != container || v.used || std::count(items.begin(), items.end(), last))
            refuse("an opcode that finds no " +
                   std::string(container == kind::list ? "list" : "dictionary") + " to add to");
        if (container == kind::dict) {
            if (items.size() % 2)
                refuse("a key without its value");
            for (size_t i = 0; i < items.size(); i += 2) {
                const kind key = d_values[items[i]].is;
                if (key != kind::text && key != kind::integer && key != kind::real &&
                    key != kind::boolean)
                    refuse("a key that is neither a text nor a number");
            }
        }
        include(v, items);
        v.items.insert(v.items.end(), items.begin(), items.end());
        d_stack.push_back(last);
    }

    void put(uint64_t key)
    {
        if (key > rules().pickle_values) // LibTorch's memo is as long as its largest key
            refuse("a memo of more than " + std::to_string(rules().pickle_values));
        const id last = pop_many(1)[0];
        if (d_values[last].is == kind::unbuilt)
            refuse("an object without its state");
        d_memo[key] = last;
        d_stack.push_back(last);
    }

    void get(uint64_t key)
    {
        const auto entry = d_memo.find(key);
        if (entry == d_memo.end())
            refuse("what was not put into its memo");
        d_values[entry->second].used = true;
        d_stack.push_back(entry->second);
    }

    void new_object()
    {
        const value& arguments = pop();
        const value& type = pop();
        if (arguments.is != kind::tuple || !arguments.items.empty() || type.is != kind::name ||
            type.text.rfind("__torch__", 0) != 0)
            refuse("an object of a class that is not the model's");
        push({ kind::unbuilt });
    }

    void build()
    {
        const auto state = pop_many(1);
        if (pop().is != kind::unbuilt)
            refuse("the state of something that is no object");
        value v{ kind::object };
        include(v, state);
        push(std::move(v));
    }

    void storage()
    {
        const value& saved = pop();
        const auto& items = saved.items;
        const kind expected[]{ kind::text, kind::name, kind::text, kind::text, kind::integer };
        if (saved.is != kind::tuple || items.size() != 5)
            refuse("a storage that is none");
        for (size_t i = 0; i < 5; i++)
            if (d_values[items[i]].is != expected[i])
                refuse("a storage that is none");
        const std::string type = dots(d_values[items[1]].text);
        const auto known = type.rfind("torch.", 0) == 0
                               ? rules().pickle_storages.find(type.substr(6))
                               : rules().pickle_storages.end();
        if (d_values[items[0]].text != "storage" || known == rules().pickle_storages.end())
            refuse("a storage of a type that models have not");
        const std::string key(d_values[items[2]].text);
        const int64_t elements = d_values[items[4]].number;
        const auto size = d_record_size(key);
        if (!size || elements < 0 || *size % known->second ||
            static_cast<uint64_t>(elements) != *size / known->second)
            refuse("a storage of " + std::to_string(elements) + " elements whose record has " +
                   (size ? std::to_string(*size) + " bytes" : "no bytes"));
        value v{ kind::storage };
        v.number = elements;
        push(std::move(v));
    }

    //! All of one kind. \throws where they are not
    std::vector<int64_t> integers(id tuple, const char* what)
    {
        const value& v = d_values[tuple];
        if (v.is != kind::tuple || v.items.size() > rules().tensor_dims)
            refuse(std::string(what) + " of more than " + std::to_string(rules().tensor_dims) +
                   " dimensions");
        std::vector<int64_t> all;
        for (const id item : v.items) {
            if (d_values[item].is != kind::integer || d_values[item].number < 0)
                refuse(std::string(what) + " that is none");
            all.push_back(d_values[item].number);
        }
        return all;
    }

    //! The list itself of one that a function was given and gave back.
    id list_of(id list) const
    {
        const int64_t other = d_values[list].number;
        return other ? static_cast<id>(other - 1) : list;
    }

    void expect_kinds(id list, std::initializer_list<kind> allowed)
    {
        for (const id item : d_values[list_of(list)].items)
            if (!std::count(allowed.begin(), allowed.end(), d_values[item].is))
                refuse("a list whose items are not of its type");
    }

    void reduce()
    {
        const id arguments_id = pop_many(1)[0];
        const value& function = pop();
        const value& arguments = d_values[arguments_id];
        if (function.is != kind::name || arguments.is != kind::tuple)
            refuse("a call of what is no function");
        const std::string name = dots(function.text);
        if (!rules().pickle_functions.count(name))
            refuse("a call of " + name.substr(0, 100));
        const auto& items = arguments.items;
        const auto argument_is = [&](size_t i, kind is) {
            return i < items.size() && d_values[items[i]].is == is;
        };
        value result{ kind::object };
        include(result, { arguments_id });
        if (name == "torch._utils._rebuild_tensor_v2" || name == "torch._utils._rebuild_qtensor") {
            result.is = kind::tensor;
            result.number = tensor(items, name == "torch._utils._rebuild_qtensor");
        } else if (name == "collections.OrderedDict") {
            if (!items.empty())
                refuse("an OrderedDict that is not empty");
            result.is = kind::none;
        } else if (name == "torch.device") {
            if (items.size() != 1 || !argument_is(0, kind::text))
                refuse("a device without a name");
        } else if (name == "builtins.complex") {
            if (items.size() != 2 || !argument_is(0, kind::real) || !argument_is(1, kind::real))
                refuse("a complex number that is none");
        } else if (name == "torch.jit._pickle.restore_type_tag") {
            const bool container = argument_is(0, kind::list) || argument_is(0, kind::dict);
            if (items.size() != 2 || !container || !argument_is(1, kind::text))
                refuse("a type of what is no container");
            check_type(d_values[items[1]].text);
            result.is = d_values[items[0]].is;
            result.number = 1 + int64_t{ list_of(items[0]) };
            result.used = true; // the list itself, not a copy
        } else {
            if (items.size() != 1 || !argument_is(0, kind::list))
                refuse("a type of what is no list");
            const id list = items[0];
            if (name == "torch.jit._pickle.build_intlist")
                expect_kinds(list, { kind::integer });
            else if (name == "torch.jit._pickle.build_doublelist")
                expect_kinds(list, { kind::real });
            else if (name == "torch.jit._pickle.build_boollist")
                expect_kinds(list, { kind::boolean });
            else
                expect_kinds(list, { kind::tensor });
            result.is = kind::list;
            result.number = 1 + int64_t{ list_of(list) };
            result.used = true;
        }
        push(std::move(result));
    }

    //! How many elements a tensor of these arguments has, all of them within its storage.
    int64_t tensor(const std::vector<id>& items, bool quantized)
    {
        const size_t least = quantized ? 7 : 6;
        if (items.size() < least || items.size() > least + 1 ||
            d_values[items[0]].is != kind::storage || d_values[items[1]].is != kind::integer)
            refuse("a tensor that is none");
        const auto sizes = integers(items[2], "a tensor's size");
        const auto strides = integers(items[3], "a tensor's stride");
        if (sizes.size() != strides.size())
            refuse("a tensor whose sizes and strides differ in number");
        const auto inside = [&] {
            __int128 last = d_values[items[1]].number;
            if (last < 0)
                return false;
            if (std::count(sizes.begin(), sizes.end(), 0))
                return last <= d_values[items[0]].number;
            for (size_t i = 0; i < sizes.size(); i++)
                last += static_cast<__int128>(sizes[i] - 1) * strides[i];
            return last < d_values[items[0]].number;
        };
        if (!inside())
            refuse("a tensor that reaches beyond its storage");
        __int128 elements = 1;
        for (const int64_t size : sizes) {
            elements *= size;
            if (elements > static_cast<int64_t>(rules().tensor_elements)) // of stride 0
                refuse("a tensor of more than " + std::to_string(rules().tensor_elements) +
                       " elements");
        }
        if (quantized)
            check_quantizer(items[4], sizes);
        return static_cast<int64_t>(elements);
    }

    void check_quantizer(id tuple, const std::vector<int64_t>& sizes)
    {
        const value& v = d_values[tuple];
        const auto is = [&](size_t i, kind expected) {
            return i < v.items.size() && d_values[v.items[i]].is == expected;
        };
        const std::string scheme =
            v.is == kind::tuple && is(0, kind::name) ? dots(d_values[v.items[0]].text) : "";
        if (scheme.rfind("torch.", 0) != 0 || !rules().pickle_schemes.count(scheme.substr(6)))
            refuse("a quantised tensor of an unknown scheme");
        if (scheme == "torch.per_tensor_affine") {
            if (v.items.size() != 3 || !is(1, kind::real) || !is(2, kind::integer))
                refuse("a quantised tensor without scale");
            return;
        }
        if (v.items.size() != 4 || !is(1, kind::tensor) || !is(2, kind::tensor) ||
            !is(3, kind::integer))
            refuse("a quantised tensor without scales");
        const int64_t axis = d_values[v.items[3]].number;
        if (axis < 0 || static_cast<size_t>(axis) >= sizes.size() ||
            d_values[v.items[1]].number != sizes[axis] ||
            d_values[v.items[2]].number != sizes[axis])
            refuse("a quantised tensor with more, or fewer, scales than channels");
    }

    static void check_type(std::string_view type)
    {
        size_t depth = 0, deepest = 0;
        for (const char c : type) {
            if (c == '[')
                deepest = std::max(deepest, ++depth);
            else if (c == ']' && depth)
                depth--;
            else if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.' &&
                     c != ',' && c != ' ')
                refuse("the name of a type that is none");
        }
        if (type.size() > rules().type_bytes || deepest > rules().type_depth || depth)
            refuse("the name of a type longer than " + std::to_string(rules().type_bytes) +
                   " characters or nested more than " + std::to_string(rules().type_depth) +
                   " levels deep");
    }

    const std::string_view d_pickle;
    const std::function<std::optional<size_t>(const std::string&)>& d_record_size;
    size_t d_at = 0;
    std::vector<value> d_values;
    std::vector<id> d_stack;
    std::vector<size_t> d_marks;
    std::unordered_map<uint64_t, id> d_memo;
};

} // namespace

void check_pickle(std::string_view pickle,
                  const std::function<std::optional<size_t>(const std::string&)>& record_size)
{
    pickle_check(pickle, record_size).run();
}

} // namespace gr::deeprx
