/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "tdl_fader_impl.h"
#include "tags.h"

#include <gnuradio/io_signature.h>

#include <algorithm>
#include <vector>

namespace gr::deeprx {

tdl_fader::sptr tdl_fader::make(std::shared_ptr<tdl_fading> fading, uint64_t burst_slots, bool tags)
{
    return gnuradio::make_block_sptr<tdl_fader_impl>(std::move(fading), burst_slots, tags);
}

tdl_fader_impl::tdl_fader_impl(std::shared_ptr<tdl_fading> fading, uint64_t burst_slots, bool tags)
    : gr::sync_block("TDL fader",
                     gr::io_signature::make(1, 1, sizeof(gr_complex)),
                     gr::io_signature::make(fading->n_rx(), fading->n_rx(), sizeof(gr_complex))),
      d_fading(std::move(fading)), d_burst_slots(burst_slots)
{
    if (!tags)
        set_tag_propagation_policy(TPP_DONT);
}

int tdl_fader_impl::work(int noutput_items,
                         gr_vector_const_void_star& input_items,
                         gr_vector_void_star& output_items)
{
    const auto* in = static_cast<const gr_complex*>(input_items[0]);
    std::vector<gr_complex*> out;
    for (void* antenna : output_items)
        out.push_back(static_cast<gr_complex*>(antenna));
    const auto fade = [&](int n) {
        d_fading->process(in, n, out.data());
        in += n;
        for (gr_complex*& antenna : out)
            antenna += n;
    };

    int done = 0;
    if (d_burst_slots) {
        std::vector<tag_t> starts;
        get_tags_in_window(starts, 0, 0, noutput_items, slot_index_key);
        std::sort(starts.begin(), starts.end(), tag_t::offset_compare);
        for (const auto& start : starts) {
            const auto index = to_unsigned(start.value);
            const uint64_t draw = index ? *index / d_burst_slots : d_draw;
            if (draw == d_draw)
                continue;
            const int at = static_cast<int>(start.offset - nitems_read(0));
            fade(at - done);
            done = at;
            d_draw = draw;
            d_fading->redraw(draw);
        }
    }
    fade(noutput_items - done);
    return noutput_items;
}

} // namespace gr::deeprx
