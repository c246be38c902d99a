# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx record: what the antennas of a simulated link see, as a SigMF recording with its truth."""

import getpass
import sys
import time

from gnuradio import blocks, gr

from deeprx_common.options import one_of
from deeprx_common.terminal import make_console, progress_bar

from ..blocks.guarded import run_flowgraph
from ..measure.flowgraph import stop_on_ctrl_c
from ..recording.recording import SentSlots
from ..recording.sink import recording_sink
from ..recording.writer import DATATYPES
from .options import BLOCKS, FADING, SLOT, add_options, add_timing, link_of, single

FULL_SCALE = 8.0  # ci16_le: 9 dB above a sample's rms with noise of the same power: clips nothing


def configure(parser) -> None:
    add = parser.add_argument
    add("path", metavar="FILE", help="FILE.sigmf-meta and FILE.sigmf-data are written")
    add_options(parser, "channel", sinr=[12.0], slots=200)
    add_options(parser, *SLOT, *BLOCKS, "n_rx", *FADING, "seed")
    add_timing(parser, sync=True)
    about = f"{' or '.join(DATATYPES)} (ci16_le)"
    add("--datatype", type=one_of(DATATYPES), metavar="NAME", default="ci16_le", help=about)
    add("--collection", action="store_true", help="a file for each antenna")
    add("--archive", action="store_true", help="FILE.sigmf alone")
    add("--author", metavar="NAME", default=_login(), help="(the login name)")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def run(arguments) -> int:
    a = arguments
    link = link_of(a, single(a.channel, "--channel"), single(a.sinr, "--sinr"))
    flowgraph = gr.top_block("deeprx record", catch_exceptions=True)
    fading = link.connect(flowgraph)
    sink = recording_sink(
        a.path,
        n_rx=a.n_rx,
        datatype=a.datatype,
        full_scale=FULL_SCALE,
        preamble=link.preamble,
        bit_seed=a.seed,
        conditions=link.conditions,
        burst_slots=a.burst,
        hw="simulation: deeprx tdl_channel",
        author=a.author,
        description=f"{a.slots} slots over {link.channel} at {link.sinr_db:g} dB SINR",
        collection=a.collection,
        archive=a.archive,
        slot=link.config,
    )
    # a synchroniser's windows reach a little beyond the last slot
    samples = SentSlots(link.config, link.preamble).n_samples(0, a.slots) + link.config.fft_size
    for antenna in range(a.n_rx):
        head = blocks.head(gr.sizeof_gr_complex, samples)
        flowgraph.connect((fading, antenna), head, (sink, antenna))
    started = time.monotonic()
    bar = progress_bar(make_console(), "{task.completed:.0f}/{task.total:.0f} slots")
    with stop_on_ctrl_c() as stop, bar as progress:
        task = progress.add_task("recording", total=a.slots)
        run_flowgraph(flowgraph, stop.is_set, lambda: progress.update(task, completed=sink.slots()))
    recorded = f"{sink.slots()} slots, {sink.samples()} samples of {a.n_rx} antennas"
    if sink.clipped():
        recorded += f", {sink.clipped()} values clipped"
    where = sink.paths()[0]
    if sink.error():
        print(f"deeprx: error: {sink.error().strerror}; kept: {recorded}: {where}", file=sys.stderr)
        return 2
    if stop.is_set():
        print(f"deeprx: stopped; kept: {recorded}: {where}", file=sys.stderr)
        return 130
    print(f"{recorded} in {time.monotonic() - started:.0f} s: {where}")
    return 0
