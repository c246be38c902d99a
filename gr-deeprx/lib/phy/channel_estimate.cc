/* SPDX-License-Identifier: GPL-3.0-or-later */

#include "channel_estimate.h"

namespace gr::deeprx {

pilot_layout layout_of(const slot_geometry& slot)
{
    pilot_layout layout{
        slot.symbols(), slot.n_subcarriers(), slot.dmrs(), slot.config().cdm_groups, {}
    };
    for (int layer = 0; layer < slot.n_layers(); layer++)
        layout.layers.push_back({ slot.config().users[layer].port, slot.bits_per_symbol(layer) });
    return layout;
}

channel_estimate::channel_estimate(const pilot_layout& layout,
                                   int n_rx,
                                   const std::vector<int>& times)
    : d_n_rx(n_rx),
      d_stride((layout.n_subcarriers + equaliser_lanes - 1) / equaliser_lanes * equaliser_lanes),
      d_times(times), d_planes(layout.layers.size() * n_rx * times.size() * 2 * d_stride)
{
}

channel_estimate::place channel_estimate::between(int symbol) const
{
    const int n = static_cast<int>(d_times.size());
    if (n == 1)
        return { 0, 0, 0.0f };
    int before = 0;
    while (before < n - 2 && symbol >= d_times[before + 1])
        before++;
    const int from = d_times[before], to = d_times[before + 1];
    return { before, before + 1, static_cast<float>(symbol - from) / (to - from) };
}

} // namespace gr::deeprx
