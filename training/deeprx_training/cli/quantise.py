# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train quantise"""

from ..values import whole
from .options import add_model_file, add_recipe, set_threads, value, write_model_file


def configure(parser) -> None:
    parser.description = (
        "Chooses the int8 scales on slots of the recipe's channels, and compares with float32 on "
        "others: where int8 needs over 0.1 dB more SINR for a BER of 1e-2 (16QAM), it is fine- "
        "tuned with the rounding in place, on the float32 receiver's LLRs. Then as export. The "
        "file needs a CPU with int8 instructions (VNNI or AMX)."
    )
    add = parser.add_argument
    add("receiver", help="CHECKPOINT[:MEMBER[@ROUNDS]] of a RealtimeRx")
    add_model_file(parser)
    add_recipe(parser, required=True)
    add(
        "--scale-slots",
        type=value(whole(2)),
        default=256,
        help="to choose scales on, and to compare on at each of three SINRs (default: %(default)s)",
    )
    add(
        "--steps",
        type=value(whole(2)),
        default=300,
        help="of fine-tuning (default: %(default)s)",
    )


def run(arguments) -> int:
    from ..export.quantise import SINR_DB, quantise
    from ..teaching import recipe as recipes
    from ..teaching.checkpoint import provenance, read_receiver

    a = arguments
    set_threads(a)
    recipe = recipes.load(a.recipe)
    receiver = read_receiver(a.receiver, rebuild=True)
    training = provenance(recipe, a.recipe, receiver)
    net, done = quantise(receiver.net, recipe.data, a.scale_slots, a.steps)
    at = done["sinr_db_at_ber_1e-2"]
    print(
        f"BER 1e-2 at {at['float32']:.2f} dB in float32, {at['int8']:.2f} dB in int8 "
        f"({', '.join(done['channels'])}; {a.scale_slots} slots each at {len(SINR_DB)} SINRs)"
    )
    training["quantisation"] = done
    write_model_file(a, net, receiver.described, a.kind, [net.n_rx], "int8", training)
    return 0
