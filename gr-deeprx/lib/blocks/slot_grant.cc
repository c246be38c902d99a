/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "slot_grant.h"
#include "pmt_values.h"
#include "tags.h"

#include <stdexcept>
#include <string>

namespace gr::deeprx {

namespace {

const pmt::pmt_t rnti_key = pmt::mp("rnti");
const pmt::pmt_t process_key = pmt::mp("process");
const pmt::pmt_t rv_key = pmt::mp("rv");
const pmt::pmt_t new_data_key = pmt::mp("new_data");

} // namespace

void slot_grant::read(const std::function<pmt::pmt_t(const pmt::pmt_t& key)>& value)
{
    const auto number = [&](const pmt::pmt_t& key, int& field, unsigned most) {
        const auto given = value(key);
        if (pmt::is_null(given))
            return;
        const auto found = to_unsigned(given);
        if (!found || *found > most)
            throw std::invalid_argument(pmt::symbol_to_string(key) + " must be 0 to " +
                                        std::to_string(most) + ", got " + in_words(given));
        field = static_cast<int>(*found);
    };
    slot_grant given = *this;
    number(rnti_key, given.rnti, 65535);
    number(process_key, given.process, 15);
    number(rv_key, given.rv, 3);
    if (const auto flag = value(new_data_key); pmt::is_bool(flag))
        given.new_data = pmt::to_bool(flag);
    else if (!pmt::is_null(flag))
        throw std::invalid_argument("new_data must be true or false, got " + in_words(flag));
    *this = given;
}

void slot_grant::each(
    const std::function<void(const pmt::pmt_t& key, const pmt::pmt_t& value)>& use) const
{
    use(rnti_key, pmt::from_long(rnti));
    use(process_key, pmt::from_long(process));
    use(rv_key, pmt::from_long(rv));
    use(new_data_key, pmt::from_bool(new_data));
}

pmt::pmt_t slot_grant::to_dictionary(uint64_t slot_index) const
{
    auto all = pmt::dict_add(pmt::make_dict(), slot_index_key, pmt::from_uint64(slot_index));
    each([&](const auto& key, const auto& value) { all = pmt::dict_add(all, key, value); });
    return all;
}

granted_block to_granted_block(const pmt::pmt_t& message, size_t n_bytes, const slot_grant& usual)
{
    if (!pmt::is_pair(message) || !pmt::is_u8vector(pmt::cdr(message)))
        throw std::invalid_argument("expected a pair of a dictionary and bytes (u8vector), got " +
                                    in_words(message));
    size_t length = 0;
    const uint8_t* bytes = pmt::u8vector_elements(pmt::cdr(message), length);
    if (length != n_bytes)
        throw std::invalid_argument("expected a block of " + std::to_string(n_bytes) +
                                    " bytes, got " + std::to_string(length));
    granted_block block{ usual, { bytes, bytes + length } };
    block.grant.read([&](const auto& key) { return entry(pmt::car(message), key); });
    return block;
}

} // namespace gr::deeprx
