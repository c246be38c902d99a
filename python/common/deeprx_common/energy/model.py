# SPDX-License-Identifier: GPL-3.0-or-later
"""The modelled energy, and the report's energy_per_slot_j that holds it beside what was counted."""

from .windows import Window

# Assumptions of the modelled energy, named in every report that uses them. Both are a data sheet's
# peak rate over its rated power, at a utilisation of a quarter that small convolutions reach.
CPU_FLOP_PER_S_PER_W = 5e9  # server core: 2.4 GHz x 32 float32 FLOP/clock x 1/4 over 4 W
GPU_FLOP_PER_S_PER_W = 2.4e10  # H100 SXM: 67 TFLOP/s float32 x 1/4 over 700 W


def modelled_j(flop: float, device: str = "cpu") -> tuple[float, str]:
    """Energy of so many FLOP: E = FLOP / (FLOP/s/W), and the model's name with its assumption.

    The first of the case study's models (Lbath, Labriji, arXiv 2507.10409): it knows neither memory
    traffic nor idle power, and its constant is an assumption, not a measurement of this machine.
    """
    rate = CPU_FLOP_PER_S_PER_W if device == "cpu" else GPU_FLOP_PER_S_PER_W
    return flop / rate, f"FLOP / ({rate:.2g} FLOP/s/W, assumed for {device.partition(':')[0]})"


def energy_per_slot(
    flop_per_slot: float | None,
    device: str = "cpu",
    window: Window | None = None,
    gpu_share: float | None = None,
    source: str = "none: not measured",
) -> dict:
    """The report's energy_per_slot_j: joules per slot, each value under what it really is.

    window: the receiver's, as Window.served() gives. source: why there is no window.

    A GPU's board is `measured`; where several receivers shared it, gpu_share is this one's part of
    their inference time and its joules are `attributed`. On a CPU the counter counts everything
    that ran, so nothing is measured for one receiver: `attributed` is its share by CPU time. A
    meter that is itself a model replaces the model by FLOP under `modelled`.

    Of what was measured or attributed, `net` is above idle, `bound` how far off the gross value may
    be by ticks and resolution, and `per_bit` gross joules per information bit. Where the window is
    not valid all of these are null and `invalid` says why.
    """
    if window and device == "cpu":
        window = window.attributed()
    elif window and gpu_share is not None:
        window = window.share(gpu_share)
    metered = window is not None and window.kind != "none"
    modelled, model = modelled_j(flop_per_slot, device) if flop_per_slot else (None, None)
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
        if window.kind == "modelled":
            energy["model"] = window.source
        else:
            energy["net"] = window.per_slot(window.net_j)
            energy["bound"] = window.per_slot(window.bound_j)
            energy["per_bit"] = window.per_bit(window.joules)
    return energy
