# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train describe"""


def configure(parser) -> None:
    parser.description = (
        "Writes into deeprx.json what a receiver was trained on, as its recipe in the file says, "
        "and with --results its bit error rates and limits as measured. Program, weights and "
        "OpenVINO IR stay byte for byte as they are; the file's SHA-256 changes."
    )
    parser.add_argument("files", nargs="+", metavar="FILE.pt", help="a model file to change")
    parser.add_argument(
        "--results", metavar="DIR", help="with the ber.json and limits.json of ./dev results"
    )


def run(arguments) -> int:
    from ..export.describe import describe

    for path in arguments.files:
        metadata = describe(path, arguments.results)
        ranges = metadata["trained"]
        channels = ", ".join(ranges["channels"]) if ranges else ""
        trained = f"trained on {channels}" if channels else "not known how trained"
        print(f"{path}: {metadata['name']}, {trained}")
    return 0
