/* SPDX-License-Identifier: GPL-3.0-or-later */

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace gr::deeprx {

/*!
 * \brief What a model file may be: deeprx_common/model_rules.json, which Python's reader of the
 * archive has, too, as it was when this was built.
 */
struct model_rules {
    size_t file_bytes, records, name_bytes, code_bytes, pickle_bytes, json_bytes, xml_bytes,
        all_xml_bytes;
    size_t code_indent, code_depth;
    size_t pickle_values, pickle_depth, pickle_expanded, type_bytes, type_depth;
    size_t tensor_dims, tensor_elements;
    size_t json_depth, xml_depth, xml_attributes;
    std::vector<std::pair<uint32_t, uint32_t>> unprintable; // characters, first and last of a range
    std::unordered_map<std::string, size_t> pickle_storages; // bytes of an element
    std::unordered_set<std::string> pickle_functions, pickle_schemes;
    std::unordered_set<std::string> ir_layers, ir_elements;
};

const model_rules& rules();

} // namespace gr::deeprx
