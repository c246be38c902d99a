# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of several commands, each defined once: a name means the same in every command."""

import atexit
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from deeprx_common import energy
from deeprx_common.files import writable_folder
from deeprx_common.modulation import MODULATIONS
from deeprx_common.options import list_of, one_of
from deeprx_common.printable import printable
from deeprx_common.slot import SLOTS, SlotConfig
from deeprx_common.slot_file import changed_slot, given_slot, slot_of
from deeprx_common.trusted import hash_of

from ..blocks.tdl import PROFILES
from ..deeprx_python import set_jail_limits
from ..measure.link import Link
from ..models.file import PERFECT, ModelFile, PerfectReceiver, read_model_file

IDLE_S = 3.0  # of nothing running, before the first flowgraph
ENGINES = ("auto", "native", "torchscript", "openvino")


class Trusted(str):
    """SHA-256 of a file that --trust named. name: how."""

    name: str


def _trusted(name: str) -> Trusted:
    """An argparse type: the file as it is now, before anything is loaded."""
    trusted = Trusted(hash_of(name))
    trusted.name = name
    return trusted


class Unset(str):
    """The default of an option that is None unless given: what is taken then, in words."""


OF_SLOT = object()  # the default of an option that is None unless given: what the slot has
_GNB = SLOTS["gnb"]


@dataclass(frozen=True)
class _Option:
    about: str
    metavar: str
    default: object = None
    type: Callable = str
    action: str = "store"


_OPTIONS = {
    "receiver": _Option(
        "a model file, the name of one that ships, or ls-lmmse, sure-lmmse or gnb, which have no "
        "file; repeat to compare",
        "MODEL",
        action="append",
    ),
    "reference": _Option(
        "the receiver that all others are compared with",
        "NAME",
        Unset("the best classical one"),
    ),
    "trust": _Option(
        "a model file that may run outside of a jail, beside those that ship; repeat for more",
        "FILE.pt",
        [],
        _trusted,
        "append",
    ),
    "jail_memory": _Option(
        "memory of a jail, beyond what the inference libraries hold", "MIB", Unset("2048"), float
    ),
    "jail_load": _Option(
        "seconds to load a model in a jail, and to compile it for a size of batch",
        "S",
        Unset("60"),
        float,
    ),
    "jail_batch": _Option(
        "seconds of a batch in a jail",
        "S",
        Unset("5, and 50 times what one takes, at most 30"),
        float,
    ),
    "engine": _Option(
        "what computes: native, torchscript, openvino, or auto: on the CPU native where it knows "
        "the net, else openvino where the model file carries it",
        "NAME",
        "auto",
        one_of(ENGINES),
    ),
    "device": _Option("cpu, cuda or cuda:<n>", "NAME", "cpu"),
    "threads": _Option("CPU threads of a receiver", "N", 1, int),
    "meter": _Option(f"energy counter: {energy.METERS}", "NAME", "auto"),
    "idle_power": _Option(
        "watts at rest, for joules net of idle; measured where there is a counter",
        "W",
        type=float,
    ),
    "core_power": _Option(
        "watts of a busy core, or of a busy GPU, for modelled joules; assumed "
        f"{energy.CORE_W:g}, {energy.BOARD_W:g}",
        "W",
        type=float,
    ),
    "out": _Option("folder for the results", "DIR", type=Path),
    "slot": _Option(
        "default, or gnb: what an open gNB schedules by default on 20 MHz, with "
        f"{_GNB.cdm_groups} CDM groups without data, an FFT of {_GNB.fft_size} and slots counted "
        "through the frame; or a JSON file of a slot, as reports and recordings hold it. Options "
        "that say more of the slot show both defaults where they differ, and override a file",
        "NAME|FILE",
        "default",
        slot_of,
    ),
    "modulation": _Option(", ".join(MODULATIONS), "NAME", OF_SLOT, one_of(MODULATIONS)),
    "mcs": _Option(
        "index, in place of --modulation: transport blocks are sent, and their errors counted",
        "N",
        Unset("none: bits"),
        int,
    ),
    "harq": _Option(
        "transmissions of a transport block at most, with --mcs; each receiver has its own ACKs, "
        "so what is compared is BER and goodput",
        "N",
        1,
        int,
    ),
    "users": _Option(
        "1, or 2 on the same PRBs, alike, with a layer, a fading channel and blocks each",
        "N",
        Unset("1"),
        int,
    ),
    "mcs_table": _Option("1 (64QAM), 2 (256QAM) or 3 (low rates)", "N", Unset("1"), int),
    "n_prb": _Option(
        "PRBs of a slot, 1 to 273; a carrier with an FFT size of its own stays where they fit into "
        "it, as gnb's, else it grows and shrinks with them",
        "N",
        OF_SLOT,
        int,
    ),
    "dmrs": _Option(
        "DMRS symbols of TS 38.211 table 6.4.1.1.3-3", "SYMBOL,..", OF_SLOT, list_of(int)
    ),
    "dmrs_n_id": _Option("identity of the DMRS, 0 to 65535", "N", OF_SLOT, int),
    "scs_khz": _Option("subcarrier spacing: 15, 30 or 60 kHz", "KHZ", OF_SLOT, int),
    "n_rx": _Option("receive antennas, 1 to 4", "N", 2, int),
    "seed": _Option("of the bits; of a simulation's fading and noise, too", "N", 1, int),
    "slots": _Option("slots of an operating point", "N", 200, int),
    "burst": _Option("slots of one fading draw: one cluster of the intervals", "SLOTS", 5, int),
    "channel": _Option("a list of TDL-A to TDL-E", "NAME,..", ["TDL-A"], list_of(one_of(PROFILES))),
    "sinr": _Option(
        "of a data RE and antenna: a list, or a range, as 6:18:3",
        "DB,..",
        [6.0, 9.0, 12.0],
        list_of(float),
    ),
    "sir": _Option("adds an interfering slot; noise makes up the rest", "DB", type=float),
    "delay_spread": _Option("rms, seconds", "S", 100e-9, float),
    "doppler": _Option("maximum Doppler shift", "HZ", 50.0, float),
    "cfo": _Option("carrier frequency offset", "HZ", 0.0, float),
}
SLOT = ("slot", "modulation", "n_prb", "dmrs", "dmrs_n_id", "scs_khz")
BLOCKS = ("mcs", "mcs_table", "users")
FADING = ("delay_spread", "doppler", "sir", "cfo", "burst")
TRUST = ("trust", "jail_memory", "jail_load", "jail_batch")
METERING = ("meter", "idle_power", "core_power")


REQUIRED = object()


def add_options(parser, *names: str, **defaults) -> None:
    """Add options that several commands have, by name, with the defaults that are others here:
    values, REQUIRED or Unset.
    """
    slots = SLOTS if "slot" in names else {"default": SLOTS["default"]}
    for name in dict.fromkeys((*names, *defaults)):
        option = _OPTIONS[name]
        default = defaults.get(name, option.default)
        if default is OF_SLOT:
            default = Unset(_of_slots(name, slots))
        shown = _shown(default)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            action=option.action,
            type=option.type,
            metavar=option.metavar,
            required=default is REQUIRED,
            default=None if default is REQUIRED or isinstance(default, Unset) else default,
            help=option.about + (f" ({shown})" if shown else ""),
        )


def _of_slots(name: str, slots: dict[str, SlotConfig]) -> str:
    """What slots have: the default one, and by name those that have something else."""
    values = {key: _shown(getattr(slot, name)) for key, slot in slots.items()}
    default = values.pop("default")
    return "; ".join([default, *(f"{k}: {v}" for k, v in values.items() if v != default)])


def _shown(default) -> str:
    if isinstance(default, list | tuple):
        return ",".join(map(_shown, default))
    if default is None or default is REQUIRED:
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def add_timing(parser, sync: bool) -> None:
    """--sync and --aligned, how slots are found. sync: the default."""
    either = parser.add_mutually_exclusive_group()
    for option, value, about in (
        ("--sync", True, "slots are sent with a preamble and found by it"),
        ("--aligned", False, "slots are where they are known to be; a preamble is not needed"),
    ):
        either.add_argument(
            option,
            dest="sync",
            action="store_true" if value else "store_false",
            default=sync,
            help=about + " (default)" * (value == sync),
        )


def read_models(names: Iterable[str | Path], arguments, simulated: bool = False) -> list[ModelFile]:
    """Receivers; where all is simulated also who knows the channel. Says where --trust names a file
    that is none of them. Raises ValueError as read_model_file() does.
    """
    models = [
        PerfectReceiver()
        if simulated and name == PERFECT
        else read_model_file(name, arguments.trust)
        for name in names
    ]
    for trusted in set(arguments.trust) - {model.sha256 for model in models}:
        name = printable(trusted.name)
        print(f"deeprx: --trust {name}: no receiver here is this file", file=sys.stderr)
    return models


def jail_limits(arguments) -> dict[str, float]:
    """Those that were given, as JailLimits takes them."""
    a, limits = arguments, {}
    if a.jail_memory is not None:
        limits["memory"] = a.jail_memory * 2**20
    if a.jail_load is not None:
        limits["load_s"] = a.jail_load
    if a.jail_batch is not None:
        limits["batch_s"] = limits["most_batch_s"] = a.jail_batch
    return limits


def limit_jails(arguments) -> None:
    """Those of this process. Raises ValueError where a limit is none."""
    if limits := jail_limits(arguments):
        set_jail_limits(**limits)


def slot_config(arguments) -> SlotConfig:
    """The slot that was asked for. Raises ValueError where there is none such."""
    return changed_slot(arguments.slot, given_slot(arguments))


def link_of(arguments, channel: str, sinr_db: float) -> Link:
    """The simulated link that was asked for, over one channel at one SINR."""
    a = arguments
    return Link(
        config=slot_config(a),
        n_rx=a.n_rx,
        channel=channel,
        delay_spread_s=a.delay_spread,
        doppler_hz=a.doppler,
        sinr_db=sinr_db,
        sir_db=a.sir,
        cfo_hz=a.cfo,
        slots=a.slots,
        burst=a.burst,
        preamble=a.sync,
        seed=a.seed,
        transmissions=getattr(a, "harq", 1),
    )


def single(values: Sequence, option: str):
    """The one value of a list option of a command that takes one."""
    if len(values) != 1:
        raise ValueError(f"{option}: expected one value here, found {len(values)}")
    return values[0]


def out_folder(arguments) -> Path:
    """The folder for a command's results, made before the work that they take: --out, else one that
    nothing else writes to. Raises OSError, which names the folder, where nothing can be written.
    """
    if arguments.out is not None:
        writable_folder(arguments.out)
        return arguments.out
    name = time.strftime(f"deeprx-{arguments.command}-%Y%m%d-%H%M%S")
    for k in count(1):
        folder = Path(name if k == 1 else f"{name}-{k}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        atexit.register(_remove_empty, folder.absolute())
        return folder


def _remove_empty(folder: Path) -> None:
    """What a mistake, found later, leaves."""
    with suppress(OSError):
        folder.rmdir()


def open_meter(arguments) -> tuple[energy.Meter, energy.Idle | None]:
    """The meter that was asked for, and what it counts while nothing runs, if that is known."""
    meter = energy.find_meter(arguments.device, arguments.meter, arguments.core_power)
    if arguments.idle_power is not None:
        return meter, energy.Idle(arguments.idle_power)
    return meter, energy.measure_idle(meter, IDLE_S) if meter.kind == "measured" else None
