# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx keys: CURVE keys for telemetry that leaves the machine."""

from ..telemetry.pubsub import make_keys


def configure(parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="to be made")


def run(arguments) -> int:
    folder = arguments.folder
    for path in make_keys(folder):
        print(path)
    print(
        "slot_probe (zmq_keys) needs publisher.key_secret and monitor.key;\n"
        f"deeprx monitor --keys {folder} needs monitor.key_secret and publisher.key."
    )
    return 0
