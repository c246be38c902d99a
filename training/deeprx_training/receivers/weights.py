# SPDX-License-Identifier: GPL-3.0-or-later
"""A net's weights as data in its model file: safetensors beside the program."""

from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor, nn

from deeprx_common.model_archive import ModelArchive
from deeprx_common.model_schema import WEIGHTS

from ..files import check_held

_DTYPES = {
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "BoolStorage": torch.bool,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


def written(weights: Mapping[str, Tensor]) -> bytes:
    """A state_dict() as the file's weights.safetensors."""
    whole = torch.contiguous_format
    return safetensors.torch.save(
        {name: t.detach().clone(memory_format=whole) for name, t in weights.items()}
    )


def read(archive: ModelArchive) -> dict[str, Tensor] | None:
    """The state_dict() that a model file carries as data; None where it carries none. ValueError
    in one line where its record is no safetensors.
    """
    data = archive.records.get(f"extra/{WEIGHTS}")
    if data is None:
        return None
    try:
        return safetensors.torch.load(bytes(data))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{WEIGHTS} is no safetensors: {error}") from None


def of_program(archive: ModelArchive) -> dict[str, Tensor]:
    """The tensors of a model file's program by their names, straight from its records; quantised
    ones are left out. ValueError where they are far more than the file holds.
    """
    weights = {}
    for name, tensor in archive.tensors().items():
        if not tensor.quantized:
            record = bytearray(archive.records[f"data/{tensor.storage.key}"])
            flat = torch.frombuffer(record or bytearray(16), dtype=_DTYPES[tensor.storage.kind])
            weights[name] = flat.as_strided(tensor.size, tensor.stride, tensor.offset)
    check_held(weights.values(), sum(map(len, archive.records.values())))
    return {name: tensor.clone() for name, tensor in weights.items()}


def put(weights: Mapping[str, Tensor], net: nn.Module, assign: bool = False) -> None:
    """load_state_dict() of weights alone: a file's may come with attributes that it obeys.

    RuntimeError where they are not the net's, or not real numbers where the net's are.
    """
    for name, own in net.state_dict().items():
        given = weights.get(name)
        both = isinstance(own, Tensor) and isinstance(given, Tensor)
        if both and given.is_floating_point() != own.is_floating_point():
            raise RuntimeError(f"expected {own.dtype} in {name}, found {given.dtype}")
    net.load_state_dict(dict(weights), assign=assign)
