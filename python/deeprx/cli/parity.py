# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx parity: whether a model file, run by the receiver block, gives the LLRs of the net that it
was exported from.
"""

import numpy as np
from gnuradio import blocks, gr

from deeprx_common.files import read_arrays
from deeprx_common.schema import parse_json
from deeprx_common.slot import SlotConfig

from ..blocks.guarded import run_flowgraph
from ..models.file import ModelFile
from .options import TRUST, add_options, read_models

KEYS = ("y", "llr", "slot", "allowed")


def configure(parser) -> None:
    parser.description = (
        "Runs the slots of FILE.npz, which `./dev train export --parity FILE.npz` "
        "wrote, through the receiver block. Exit status 1 where the LLRs differ by more than the "
        "model's precision allows."
    )
    parser.add_argument("model", metavar="MODEL.pt", help="model file")
    parser.add_argument(
        "reference", metavar="FILE.npz", help="slots and LLRs that the export wrote"
    )
    add_options(parser, "device", "engine", *TRUST)


def run(arguments) -> int:
    (model,) = read_models([arguments.model], arguments)
    y, expected, config, allowed = _read(arguments.reference)
    llrs = _block_llrs(model, y, config, arguments.device, arguments.engine)
    if llrs.shape != expected.shape:
        raise ValueError(
            f"{arguments.reference}: holds LLRs of shape {expected.shape}, the block gave "
            f"{llrs.shape}"
        )
    error = float(np.sqrt(np.mean((llrs - expected) ** 2) / np.mean(expected**2)))
    turned = int(np.sum((llrs > 0) != (expected > 0)))
    same = error <= allowed
    print(
        f"{arguments.model}: {len(y)} slots, LLRs differ by {error:.1e} RMS from the exported "
        f"net's, allowed is {allowed:.0e}; {turned} of {expected.size} bits decided "
        f"otherwise: {'the same receiver' if same else 'NOT the same receiver'}"
    )
    return 0 if same else 1


def _read(path: str) -> tuple[np.ndarray, np.ndarray, SlotConfig, float]:
    try:
        y, llr, slot, allowed = read_arrays(path, KEYS)
        config = SlotConfig.from_dict(parse_json(str(slot)))
        fits = y.shape[2:] == (config.n_symbols, config.n_sc, 2) and y.size > 0
        fits &= y.dtype == np.float32 == llr.dtype and allowed.shape == ()
        allowed = float(allowed)
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise ValueError(f"{path}: expected what `./dev train export --parity` writes") from None
    return y, llr, config, allowed


def _block_llrs(
    model: ModelFile, y: np.ndarray, config: SlotConfig, device: str, engine: str
) -> np.ndarray:
    """LLRs of deeprx.receiver, float32 [B, n_bits] in transmit order, for received grids y float32
    [B, n_rx, n_symbols, n_sc, 2].
    """
    count, n_rx = y.shape[:2]
    symbols = np.zeros((n_rx, count, config.n_symbols, config.fft_size), np.complex64)
    symbols[..., config.bins] = y.view(np.complex64)[..., 0].swapaxes(0, 1)
    flowgraph = gr.top_block("parity", catch_exceptions=True)
    block = model.receiver(config, n_rx, device=device, engine=engine)
    stream = blocks.stream_to_tagged_stream(
        gr.sizeof_gr_complex, config.fft_size, config.n_symbols, "packet_len"
    )
    sink = blocks.vector_sink_f()
    for antenna in range(n_rx):
        samples = symbols[antenna].ravel().tolist()
        source = blocks.vector_source_c(samples, False, config.fft_size)
        if antenna == 0:
            flowgraph.connect(source, stream, (block, 0))
        else:
            flowgraph.connect(source, (block, antenna))
    flowgraph.connect(block, sink)
    run_flowgraph(flowgraph)
    return np.array(sink.data(), np.float32).reshape(-1, config.n_bits)
