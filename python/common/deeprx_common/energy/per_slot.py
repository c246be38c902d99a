# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's energy_per_slot_j: what was counted, and the modelled value beside it."""

from .windows import Window


def energy_per_slot(
    window: Window | None = None,
    inference_s: float | None = None,
    gpu_share: float | None = None,
    source: str = "none: not measured",
) -> dict:
    """Joules per slot, each value under what it really is.

    window: the receiver's, as Window.served() gives. source: why there is no window. inference_s:
    of all its slots, on a GPU.

    A GPU's board is `measured`; where several receivers shared it, gpu_share is this one's part of
    their inference time and its joules are `attributed`. On a CPU the counter counts everything
    that ran, so nothing is measured for one receiver: `attributed` is its share by CPU time.
    `modelled` is the meter's price of its CPU time, or of its inference time on a GPU; null where
    that is not known, and `model` says so.

    Of what was measured or attributed, `net` is above idle, `bound` how far off the gross value may
    be by ticks and resolution, and `per_bit` gross joules per information bit. Where the window is
    not valid all of these are null and `invalid` says why.
    """
    modelled, model = None, "none: no CPU time was measured"
    if window:
        on_cpu = window.price.device == "cpu"
        busy_s = window.cpu_s if on_cpu else inference_s
        if busy_s is not None and window.slots:
            modelled = window.per_slot(window.price.joules(busy_s))
            model = str(window.price)
        if on_cpu:
            window = window.attributed()
        elif gpu_share is not None:
            window = window.share(gpu_share)
    metered = window is not None and window.kind != "none"
    energy = {
        "measured": None,
        "attributed": None,
        "net": None,
        "bound": None,
        "per_bit": None,
        "source": window.source if window else source,
        "scope": window.scope if metered else None,
        "invalid": (window.reason or None) if metered else None,
        "modelled": modelled,
        "model": model,
    }
    if window and window.valid:
        energy[window.kind] = window.per_slot(window.joules)
        energy["net"] = window.per_slot(window.net_j)
        energy["bound"] = window.per_slot(window.bound_j)
        energy["per_bit"] = window.per_bit(window.joules)
    return energy
