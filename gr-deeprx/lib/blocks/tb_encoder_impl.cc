/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "tb_encoder_impl.h"

#include <gnuradio/io_signature.h>

#include <stdexcept>

namespace gr::deeprx {

namespace {

const pmt::pmt_t grants_port = pmt::mp("grants");

} // namespace

tb_encoder::sptr tb_encoder::make(const block_format& format)
{
    return gnuradio::make_block_sptr<tb_encoder_impl>(format);
}

tb_encoder_impl::tb_encoder_impl(const block_format& format)
    : gr::block("Transport block encoder",
                gr::io_signature::make(1, 1, sizeof(uint8_t)),
                gr::io_signature::make(1, 1, sizeof(uint8_t))),
      d_block(block_of(format)),
      d_scrambler(format.n_id, format.coded_bits), d_default{ format.rnti },
      d_packets(format.size / 8, "bytes", packet_len_key)
{
    d_scrambler.of(format.rnti); // which may be out of range
    set_tag_propagation_policy(TPP_DONT);
    set_output_multiple(format.coded_bits);
    set_relative_rate(format.coded_bits, format.size / 8);
    message_port_register_out(grants_port);
}

void tb_encoder_impl::forecast(int, gr_vector_int& ninput_items_required)
{
    ninput_items_required[0] = d_block.size() / 8;
}

int tb_encoder_impl::general_work(int noutput_items,
                                  gr_vector_int& ninput_items,
                                  gr_vector_const_void_star& input_items,
                                  gr_vector_void_star& output_items)
{
    const auto* in = static_cast<const uint8_t*>(input_items[0]);
    auto* out = static_cast<uint8_t*>(output_items[0]);
    const int n_bits = d_block.coded_bits();
    std::vector<tag_t> tags;
    get_tags_in_window(tags, 0, 0, ninput_items[0]);
    d_packets.look(std::move(tags), nitems_read(0), ninput_items[0]);

    int written = 0;
    while (written < noutput_items) {
        const auto packet = d_packets.next([this](const auto& why) { drop(why); });
        if (!packet)
            break;
        slot_grant grant = d_default;
        try {
            grant.read([&](const auto& key) { return d_packets.tag(*packet, key); });
        } catch (const std::invalid_argument& e) {
            drop("the block of slot " + std::to_string(packet->slot_index) + ": " + e.what());
            continue;
        }
        d_block.encode(in + packet->at, grant.rv, out + written);
        const auto& scrambling = d_scrambler.of(grant.rnti);
        for (int i = 0; i < n_bits; i++)
            out[written + i] ^= scrambling[i];

        const uint64_t offset = nitems_written(0) + written;
        const auto tag = [&](const pmt::pmt_t& key, const pmt::pmt_t& value) {
            add_item_tag(0, offset, key, value, alias_pmt());
        };
        tag(packet_len_key, pmt::from_long(n_bits));
        tag(slot_index_key, pmt::from_uint64(packet->slot_index));
        grant.each(tag);
        message_port_pub(grants_port, grant.to_dictionary(packet->slot_index));
        written += n_bits;
    }
    consume_each(d_packets.read());
    return written;
}

void tb_encoder_impl::drop(const std::string& why)
{
    d_dropped++;
    if (const uint64_t n = d_lines.count())
        d_logger->warn("dropped {:s} ({:d} since the last line)", why, n);
}

} // namespace gr::deeprx
