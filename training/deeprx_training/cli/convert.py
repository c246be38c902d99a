# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train convert"""

from deeprx_common.model_schema import CONTRACT, OLD_CONTRACT


def configure(parser) -> None:
    parser.description = (
        f"Rewrites model files of contract {OLD_CONTRACT} as files of {CONTRACT}, which give the "
        "same LLRs of the same slots: one layer, 14 symbols, one or two DMRS symbols (those of the "
        "recipe that the file carries), one CDM group without data. Reads them as data: no program "
        "runs. A net of this repository gets its weights as safetensors, too."
    )
    parser.add_argument("files", nargs="+", metavar="FILE.pt", help="a model file to change")


def run(arguments) -> int:
    from deeprx_common.model_archive import read_model_file
    from deeprx_common.model_schema import WEIGHTS

    from ..export.convert import convert

    for path in arguments.files:
        metadata = convert(path)
        as_data = f"extra/{WEIGHTS}" in read_model_file(path).records
        print(f"{path}: {metadata['name']}, {CONTRACT}{', with its weights' if as_data else ''}")
    return 0
