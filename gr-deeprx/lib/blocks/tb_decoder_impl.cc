/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "tb_decoder_impl.h"
#include "message_wait.h"
#include "parameters.h"
#include "pmt_values.h"

#include <gnuradio/io_signature.h>

#include <algorithm>
#include <ctime>
#include <stdexcept>

namespace gr::deeprx {

namespace {

const pmt::pmt_t grants_port = pmt::mp("grants");
const pmt::pmt_t blocks_port = pmt::mp("blocks");
const pmt::pmt_t crc_ok_key = pmt::mp("crc_ok");
const pmt::pmt_t iterations_key = pmt::mp("iterations");
const pmt::pmt_t transmissions_key = pmt::mp("transmissions");
const pmt::pmt_t cpu_ns_key = pmt::mp("cpu_ns");
const pmt::pmt_t dropped_key = pmt::mp("dropped");

constexpr size_t most_granted = 4096;
constexpr std::chrono::seconds grant_patience{ 1 };

uint64_t thread_cpu_ns()
{
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return uint64_t{ 1000000000 } * time.tv_sec + time.tv_nsec;
}

} // namespace

tb_decoder::sptr tb_decoder::make(const block_format& format,
                                  int llr_sign,
                                  int buffers,
                                  const std::string& len_tag_key)
{
    expect(llr_sign == 1 || llr_sign == -1, "llr_sign must be 1 or -1", std::to_string(llr_sign));
    expect(!len_tag_key.empty(), "len_tag_key must name a tag", "an empty string");
    return gnuradio::make_block_sptr<tb_decoder_impl>(format, llr_sign, buffers, len_tag_key);
}

tb_decoder_impl::tb_decoder_impl(const block_format& format,
                                 int llr_sign,
                                 int buffers,
                                 const std::string& len_tag_key)
    : gr::block("Transport block decoder",
                gr::io_signature::make(1, 1, sizeof(float)),
                gr::io_signature::make(0, 1, sizeof(float))),
      d_block(block_of(format)), d_scrambler(format.n_id, format.coded_bits),
      d_llr_sign(static_cast<float>(llr_sign)), d_default{ format.rnti },
      d_length_key(pmt::intern(len_tag_key)), d_packets(format.coded_bits, "LLRs", d_length_key),
      d_buffers(buffers), d_llr(format.coded_bits)
{
    d_scrambler.of(format.rnti); // which may be out of range
    set_tag_propagation_policy(TPP_DONT);
    set_output_multiple(format.coded_bits); // where it is a sink, of its input
    message_port_register_in(grants_port);
    set_msg_handler(grants_port, [this](const pmt::pmt_t& message) { handle_grant(message); });
    message_port_register_out(blocks_port);
}

void tb_decoder_impl::handle_grant(const pmt::pmt_t& message)
try {
    granted_slot slot{ 0, d_default };
    const auto index = to_unsigned(entry(message, slot_index_key));
    if (!index)
        throw std::invalid_argument("expected a dictionary with a slot_index, got " +
                                    in_words(message));
    slot.slot_index = *index;
    slot.grant.read([&](const auto& key) { return entry(message, key); });
    d_grants_come = d_patient = true;
    if (is_late(slot))
        return;
    d_granted.push_back(slot);
    if (d_granted.size() > most_granted) {
        drop(d_granted.front(), "no LLRs came");
        d_granted.pop_front();
    }
} catch (const std::invalid_argument& e) {
    if (const uint64_t n = d_grant_lines.count())
        d_logger->warn("a grant is refused: {:s} ({:d} since the last line)", e.what(), n);
}

//! Whether its slot was taken before. Grants come in order: those of slots before come no more.
bool tb_decoder_impl::is_late(const granted_slot& slot)
{
    const auto taken =
        std::find_if(d_ungranted.begin(), d_ungranted.end(), [&](const auto& ungranted) {
            return ungranted.slot_index == slot.slot_index;
        });
    if (taken == d_ungranted.end()) {
        d_ungranted.clear();
        return false;
    }
    if (taken->uncounted && !(slot.grant == d_default))
        count_without_grant(slot.slot_index);
    d_ungranted.erase(d_ungranted.begin(), taken + 1);
    return true;
}

//! How a slot was sent, where a grant says so; those before it are of slots that are lost.
std::optional<slot_grant> tb_decoder_impl::granted(uint64_t slot_index)
{
    const auto slot = std::find_if(d_granted.begin(), d_granted.end(), [&](const auto& granted) {
        return granted.slot_index == slot_index;
    });
    if (slot == d_granted.end())
        return std::nullopt;
    const slot_grant grant = slot->grant;
    std::for_each(
        d_granted.begin(), slot, [this](const auto& lost) { drop(lost, "no LLRs came"); });
    d_granted.erase(d_granted.begin(), slot + 1);
    return grant;
}

bool tb_decoder_impl::is_tagged(const packet_finder::packet& packet) const
{
    bool tagged = false;
    d_default.each(
        [&](const auto& key, const auto&) { tagged |= !pmt::is_null(d_packets.tag(packet, key)); });
    return tagged;
}

//! Whether the grant of a slot that has none may still come.
bool tb_decoder_impl::awaits_grant(uint64_t slot_index)
{
    const bool later_came =
        std::any_of(d_granted.begin(), d_granted.end(), [&](const auto& granted) {
            return granted.slot_index > slot_index;
        });
    if (!d_patient || later_came)
        return false;
    const auto now = clock::now();
    d_waits = d_waits.value_or(now);
    return d_patient = now - *d_waits < grant_patience;
}

//! \param unknown how it was sent: no tag says it either
void tb_decoder_impl::take_without_grant(uint64_t slot_index, bool unknown)
{
    if (!d_ungranted.empty() && slot_index <= d_ungranted.back().slot_index)
        d_ungranted.clear(); // they begin anew
    d_ungranted.push_back({ slot_index, unknown && !d_grants_come });
    if (d_ungranted.size() > most_granted)
        d_ungranted.pop_front();
    if (unknown && d_grants_come)
        count_without_grant(slot_index);
}

//! Nobody knows whose soft bits are of blocks before: those of all processes go.
void tb_decoder_impl::count_without_grant(uint64_t slot_index)
{
    d_buffers.clear();
    d_without_grant++;
    if (const uint64_t n = d_ungranted_lines.count())
        d_logger->warn("slot {:d} was taken for new data: its grant did not come in time ({:d} "
                       "since the last line)",
                       slot_index,
                       n);
}

void tb_decoder_impl::forecast(int, gr_vector_int& ninput_items_required)
{
    ninput_items_required[0] = d_block.coded_bits();
}

int tb_decoder_impl::general_work(int noutput_items,
                                  gr_vector_int& ninput_items,
                                  gr_vector_const_void_star& input_items,
                                  gr_vector_void_star& output_items)
{
    auto* out = output_items.empty() ? nullptr : static_cast<float*>(output_items[0]);
    const auto* llr = static_cast<const float*>(input_items[0]);
    std::vector<tag_t> tags;
    get_tags_in_window(tags, 0, 0, ninput_items[0]);
    d_packets.look(std::move(tags), nitems_read(0), ninput_items[0]);
    int written = 0;
    bool waits = false;
    while (!out || written < noutput_items) {
        const auto packet = d_packets.next([this](const auto& why) { drop(why); });
        if (!packet)
            break;
        const auto grant = granted(packet->slot_index);
        const bool unknown = !grant && !is_tagged(*packet);
        waits = unknown && awaits_grant(packet->slot_index);
        if (waits) {
            d_packets.put_back(*packet);
            break;
        }
        d_waits.reset();
        granted_slot slot{ packet->slot_index, grant.value_or(d_default) };
        try {
            slot.grant.read([&](const auto& key) { return d_packets.tag(*packet, key); });
            decode(llr + packet->at, slot.slot_index, slot.grant);
        } catch (const std::invalid_argument& e) {
            drop(slot, e.what());
        }
        if (!grant)
            take_without_grant(packet->slot_index, unknown);
        if (out) { // after the message about it
            std::copy_n(llr + packet->at, d_llr.size(), out + written);
            const uint64_t offset = nitems_written(0) + written;
            add_item_tag(0, offset, d_length_key, pmt::from_long(d_llr.size()), alias_pmt());
            add_item_tag(0, offset, slot_index_key, pmt::from_uint64(slot.slot_index), alias_pmt());
            written += static_cast<int>(d_llr.size());
        }
    }
    consume_each(d_packets.read());
    if (waits && !d_packets.read())
        wait_for_message(*this);
    return written;
}

void tb_decoder_impl::decode(const float* llr, uint64_t slot_index, const slot_grant& grant)
{
    const uint64_t start = thread_cpu_ns();
    const auto& scrambling = d_scrambler.of(grant.rnti);
    for (size_t i = 0; i < d_llr.size(); i++)
        d_llr[i] = scrambling[i] ? -d_llr_sign * llr[i] : d_llr_sign * llr[i];
    std::vector<uint8_t> block(d_block.size() / 8);
    const auto [crc_ok, iterations, transmissions] = d_block.decode(d_llr.data(),
                                                                    grant.rv,
                                                                    { grant.rnti, grant.process },
                                                                    grant.new_data,
                                                                    d_buffers,
                                                                    d_decoder,
                                                                    block.data());
    d_blocks++;
    d_block_errors += !crc_ok;
    d_forgotten = d_buffers.dropped();
    auto about = grant.to_dictionary(slot_index);
    about = pmt::dict_add(about, crc_ok_key, pmt::from_bool(crc_ok));
    about = pmt::dict_add(about, iterations_key, pmt::from_double(iterations));
    about = pmt::dict_add(about, transmissions_key, pmt::from_long(transmissions));
    about = pmt::dict_add(about, cpu_ns_key, pmt::from_uint64(thread_cpu_ns() - start));
    publish(about, block);
}

void tb_decoder_impl::drop(const std::string& why)
{
    d_dropped++;
    if (const uint64_t n = d_drop_lines.count())
        d_logger->warn("dropped {:s} ({:d} since the last line)", why, n);
}

void tb_decoder_impl::drop(const granted_slot& slot, const std::string& why)
{
    drop("slot " + std::to_string(slot.slot_index) + ": " + why);
    if (slot.grant.new_data)
        d_buffers.flush({ slot.grant.rnti, slot.grant.process });
    auto about = slot.grant.to_dictionary(slot.slot_index);
    about = pmt::dict_add(about, crc_ok_key, pmt::PMT_F);
    about = pmt::dict_add(about, dropped_key, text_symbol(why));
    publish(about, {});
}

void tb_decoder_impl::publish(const pmt::pmt_t& about, const std::vector<uint8_t>& block)
{
    message_port_pub(blocks_port, pmt::cons(about, pmt::init_u8vector(block.size(), block)));
}

} // namespace gr::deeprx
