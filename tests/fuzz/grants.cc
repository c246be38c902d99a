/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "fuzz.h"
#include "pmt_values.h"
#include "slot_grant.h"

//! How a slot's block is sent, as messages and tags say it.
int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size)
{
    fuzz::bytes from(data, size);
    static const pmt::pmt_t keys[]{
        pmt::mp("rnti"), pmt::mp("process"), pmt::mp("rv"), pmt::mp("new_data")
    };
    const auto message = from.pmt();
    auto dictionary = pmt::make_dict();
    for (int n = from.below(6); n > 0; n--) {
        const auto& key = keys[from.below(4)];
        dictionary = pmt::dict_add(dictionary, key, from.pmt());
    }
    const auto bytes = pmt::make_u8vector(from.below(5), 1);
    for (const auto& given : { message, dictionary }) {
        gr::deeprx::slot_grant grant{ 1 };
        try {
            grant.read([&](const auto& key) { return gr::deeprx::entry(given, key); });
        } catch (const std::invalid_argument& error) {
            fuzz::expect(*error.what(), "words");
        }
        try {
            const auto block = pmt::cons(given, bytes);
            const auto& sent = from.below(2) ? block : given;
            fuzz::expect(gr::deeprx::to_granted_block(sent, 3, grant).bytes.size() == 3, "3 bytes");
        } catch (const std::invalid_argument& error) {
            fuzz::expect(*error.what(), "words");
        }
        fuzz::expect(grant.rnti >= 0 && grant.rnti <= 65535, "an RNTI");
        fuzz::expect(grant.process >= 0 && grant.process <= 15, "a process");
        fuzz::expect(grant.rv >= 0 && grant.rv <= 3, "a version");
    }
    return 0;
}
