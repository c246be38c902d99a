# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train export"""

from itertools import chain

from ..values import whole
from .options import (
    add_model_file,
    add_recipe,
    add_trust,
    set_threads,
    value,
    write_model_file,
)


def configure(parser) -> None:
    parser.description = (
        "Writes TorchScript with its metadata (contract, FLOP, recipe, measured BER), then loads "
        "the file again and compares its LLRs with eager PyTorch's. 'baseline' and "
        "'baseline-sure' name the classical receivers."
    )
    add = parser.add_argument
    add("receiver", help="CHECKPOINT[:MEMBER], baseline or baseline-sure")
    add_model_file(parser)
    add(
        "--precision",
        choices=["float32", "bfloat16", "int8"],
        default="float32",
        help="of the convolutions; int8 of a PuschRx, and `./dev train quantise` makes it of a "
        "RealtimeRx (default: %(default)s)",
    )
    add("--max-log", action="store_true", help="baselines: max-log instead of log-MAP LLRs")
    add_recipe(parser)
    add_trust(parser)
    add(
        "--settle",
        type=value(whole(2)),
        metavar="SLOTS",
        help="hybrid nets: average the batch norms' statistics anew over so many of the recipe's "
        "slots of each modulation and DMRS pattern, e.g. 512 (default: keep those of the last "
        "training batches)",
    )


def run(arguments) -> int:
    from ..receivers.classical import Baseline
    from ..receivers.pusch import PuschRx
    from ..teaching import recipe as recipes
    from ..teaching.checkpoint import provenance, read_receiver

    a = arguments
    set_threads(a)
    training, recipe, described = {}, None, None
    if a.receiver in ("baseline", "baseline-sure"):
        net = Baseline(a.max_log, sure=a.receiver == "baseline-sure")
        kind, n_rx = "baseline", [1, 2, 3, 4]
    else:
        if a.recipe:
            recipe = recipes.load(a.recipe)
        receiver = read_receiver(a.receiver, rebuild=True, trust=a.trust)
        net, described = receiver.net, receiver.described
        kind, n_rx = a.kind, [getattr(net, "n_rx", 2)]
        if recipe:
            training = provenance(recipe, a.recipe, receiver)
    if a.precision == "int8" and not isinstance(net, PuschRx):
        raise ValueError(
            f"--precision int8: expected a PuschRx, found a {type(net).__name__}; "
            "./dev train quantise makes int8 of a RealtimeRx"
        )
    if a.settle:
        training["settled_slots"] = _settle(net, recipe, a.settle)
    write_model_file(a, net, described, kind, n_rx, a.precision, training)
    return 0


def _settle(net, recipe, slots: int) -> int:
    from rich.progress import track

    from ..data.channels import slots_of_every_kind
    from ..receivers.norms import settle

    if not recipe:
        raise ValueError("--settle draws a recipe's slots: give a checkpoint's --recipe")
    kinds = slots_of_every_kind(recipe.data, slots)
    settle(net, chain.from_iterable(track(kinds, "settling batch norms", transient=True)))
    return slots
