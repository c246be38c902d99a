# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files whose program attacks what runs it: who finds another way in adds its file here.

FILES: for each name a function of (path of the file to write, a path that the file's program tries
to write). What attacks the archive's reader is in tests of that.
"""

import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import receiver_models as models
import torch
from torch import nn

# A program of our own in place of receiver_models.CallsFunction's
PROGRAM = """class CallsFunction(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : NoneType
  def forward(self: __torch__.receiver_models.CallsFunction,
    y: Tensor,
    p: Tensor,
    d: Tensor,
    bits: List[int]{defaults}) -> Tensor:
{body}
    return torch.zeros([torch.size(y, 0), 1, 14, torch.size(y, 3), 4], dtype=6)
{functions}
"""


def records(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def program(body: str, functions: str = "", defaults: str = ""):
    """A file whose forward executes body; with no other use for its result, it would be skipped."""

    def make(path, target):
        models.save(models.CallsFunction(), path)
        entries = records(path)
        code = next(name for name in entries if name.endswith("receiver_models.py"))
        entries[next(n for n in entries if n.endswith("/version"))] = b"10\n"  # older spellings
        lines = "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))
        text = PROGRAM.format(body=lines, functions=functions, defaults=defaults)
        entries[code] = text.replace("@TARGET@", str(target)).encode()
        write(path, entries)

    return make


def used(value: str) -> str:
    """Statements that need the integer."""
    return (
        f"if torch.eq({value}, 5):\n"
        "  ops.prim.RaiseException('x', 'builtins.RuntimeError')\nelse:\n  pass"
    )


ZERO = "z = torch.sub(torch.size(y, 0), torch.size(y, 0))\n"
LEAST = "m = torch.mul(torch.__lshift__(torch.size(y, 4), 61), -2)\n"  # -2^63, y's last axis is 2

# ---- A function of the archive called int, which the compiler calls while it vets


def function_named_int(body: str):
    return program(
        "pass",
        f"def int(path: str) -> int:\n{body}\n  return 7\n",
        ', x: int=__torch__.receiver_models.int("@TARGET@")',
    )


def long_folder(path, target):
    """A folder's name that one of two readers of the archive cuts, so that it finds no code."""
    models.save(models.CallsFunction(), path)
    evil = (
        f'x: int=int(torch.select(torch.copy_(torch.from_file("{target}", True, 6, dtype=0), '
        "torch.tensor([112, 119, 110, 101, 100, 10], dtype=0)), 0, 0))"
    )
    hidden = {}
    for name, data in records(path).items():
        name = name.split("/", 1)[1]
        if name.endswith("receiver_models.py"):
            data = data.replace(b'state: str="fine"', f'state: str="fine", {evil}'.encode())
        elif name == "version":
            data = b"10\n"
        elif name.startswith(".") or name == "byteorder" or name.endswith(".debug_pkl"):
            continue
        hidden["A" * 506 + "/" + name] = data
    write(path, hidden)


# ---- Storages longer than what the archive holds of them: the process's memory, read and written


class Reads(nn.Module):
    """LLRs are bytes of its storage."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.zeros(4096, dtype=torch.uint8))

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        n = 14 * y.size(3) * 4
        w = torch.cat([self.w, torch.zeros(n, dtype=torch.uint8)])[:n]
        return w.float().view(1, 14, y.size(3), 4).expand(y.size(0), 14, y.size(3), 4)


class Overwrites(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.zeros(1 << 20, dtype=torch.uint8))

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        self.w[64:] = 65
        return torch.zeros(y.size(0), 14, y.size(3), 4)


def short_storage(kind):
    def make(path, target):
        models.save(kind(), path)
        entries = records(path)
        entries[next(name for name in entries if "/data/" in name)] = bytes(64)
        write(path, entries)

    return make


# ---- Endless loops and memory, at each stage


class AtLoad(nn.Module):
    def __init__(self, memory: bool):
        super().__init__()
        self.memory = memory

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return torch.zeros(y.size(0), 14, y.size(3), bits)

    @torch.jit.export
    def __getstate__(self) -> tuple[bool, bool]:
        return self.memory, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[bool, bool]):
        self.memory, self.training = state
        take(state[0])


class When(nn.Module):
    """In a batch of this size, where the first symbol is loud (or whatever it holds)."""

    def __init__(self, memory: bool, batch: int, loud: bool):
        super().__init__()
        self.memory, self.batch, self.loud = memory, batch, loud

    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        loud = bool(y[:, :, 0].abs().max() > 10 * y[:, :, 1:].abs().max())
        llr = torch.zeros(y.size(0), 14, y.size(3), bits)
        if y.size(0) == self.batch and loud == self.loud:
            llr = llr + take(self.memory)  # what nobody uses is optimised away
        return llr


def take(memory: bool):
    """4 GiB, or time without an end."""
    held = [torch.zeros(1)]
    while not memory or len(held) < 17:
        if memory:
            held.append(torch.ones(64 << 20))
        held[0].add_(1.0)
    return held[0]


def scripted(module):
    return lambda path, target: models.save(module(), path)


# ---- OpenVINO IR beside a harmless TorchScript


class Zeros(nn.Module):
    def forward(self, y: torch.Tensor, p: torch.Tensor, bits: int) -> torch.Tensor:
        return torch.zeros(y.size(0), 14, y.size(3), bits)


def graph(llrs, *changes: tuple[str, str]):
    """A file with an IR for two antennas and 16QAM.

    llrs: function of OpenVINO's operators and the inputs y [B, 2, 14, n, 2], p [B, 14, n, 2]
    changes: (pattern, text) applied to its XML, since OpenVINO's front checks some things
    """

    def make(path, target):
        sys.modules.setdefault(
            "openvino_telemetry", None
        )  # importing OpenVINO reports to its maker
        import openvino
        from openvino import opset13 as op

        y = op.parameter([-1, 2, 14, -1, 2], name="y")
        p = op.parameter([-1, 14, -1, 2], name="p")
        for port, name in ((y, "y"), (p, "p")):
            port.output(0).get_tensor().set_names({name})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "ir.xml"
            model = openvino.Model([llrs(op, y, p)], [y, p])
            openvino.save_model(model, file, compress_to_fp16=False)
            xml, weights = file.read_text(), file.with_suffix(".bin").read_bytes()
        for pattern, text in changes:
            xml, n_places = re.subn(pattern, text, xml)
            assert n_places, f"{pattern} is not in the IR"
        carried = {"openvino/bits4.xml": xml.encode(), "openvino/bits4.bin": weights}
        models.save(Zeros(), path, carried)

    return make


def floats(op, *values):
    return op.constant(np.array(values, np.float32))


def zeros(op, p, odd=None):
    """LLRs of 0 [B, 14, n, 4]; odd: a number that must be computed for them, float [] or [1]."""
    llrs = op.multiply(op.concat([p, p], 3), floats(op, 0.0))
    return llrs if odd is None else op.add(llrs, op.multiply(odd, floats(op, 0.0)))


def integers(op, y, values):
    """An i32 vector that no compiler folds."""
    nothing = op.multiply(op.reduce_sum(y, [0, 1, 2, 3, 4]), floats(op, 0.0))
    return op.add(op.constant(np.array(values, np.int32)), op.convert(nothing, "i32"))


def _mod(dividend, divisor):
    def llrs(op, y, p):
        rest = op.mod(integers(op, y, [dividend] * 64), integers(op, y, [divisor] * 64))
        return zeros(op, p, op.convert(op.reduce_max(rest, [0]), "f32"))

    return llrs


def _folded(operator, dividend, divisor):
    """By the graph's compiler."""

    def llrs(op, y, p):
        parts = (op.constant(np.full(64, n, np.int32)) for n in (dividend, divisor))
        return zeros(op, p, op.convert(op.reduce_max(getattr(op, operator)(*parts), [0]), "f32"))

    return llrs


def _gather_nd(op, y, p):
    index = op.reshape(integers(op, y, [1_000_000_000]), [1, 1], False)
    return zeros(op, p, op.reduce_max(op.gather_nd(floats(op, 1, 1, 1, 1), index), [0]))


def _gather(op, y, p):
    zero = op.constant(0, np.int32)
    element = op.gather(floats(op, 1, 1, 1, 1), integers(op, y, [1_000_000_000]), zero)
    return zeros(op, p, op.reduce_max(element, [0]))


def _scatter(op, y, p):
    index, zero = integers(op, y, [1_000_000_000]), op.constant(0, np.int32)
    changed = op.scatter_update(floats(op, 1, 1, 1, 1), index, floats(op, 5), zero)
    return zeros(op, p, op.reduce_max(changed, [0]))


def _convolution(op, y, p):
    weights = op.constant(np.ones((4, 2, 1, 1), np.float32))
    planes = op.transpose(p, [0, 3, 1, 2])
    llrs = op.convolution(planes, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    return op.multiply(op.transpose(llrs, [0, 2, 3, 1]), floats(op, 0.0))


def _attention(op, y, p):
    """Of no heads at all."""
    flat = op.reshape(p, [1, 1, -1, 2], False)
    none = op.slice(flat, integers(op, y, [0]), integers(op, y, [0]), [1], [1])
    mask = op.constant(np.zeros((1, 1), np.float32))
    heard = op.scaled_dot_product_attention(none, none, none, mask, floats(op, 1.0))
    return zeros(op, p, op.reduce_sum(heard, [0, 1, 2, 3]))


def _broadcast(op, y, p):
    shape = integers(op, y, [1 << 15, 1 << 15])
    huge = op.broadcast(op.reduce_max(y, [0, 1, 2, 3, 4]), shape)
    return zeros(op, p, op.reduce_max(op.cum_sum(huge, op.constant(0, np.int32)), [0, 1]))


def two_readers(path, target):
    """Harmless for the reader that takes the first deeprx.json, not for the one that goes on."""
    models.save(models.WritesFileOnLoading(str(target)), path)
    entries = records(path)
    folder = next(iter(entries)).split("/", 1)[0]
    entries["other/extra/deeprx.json"] = json.dumps(models.METADATA | {"name": "other"}).encode()
    entries[f"{folder}/extra/nothing"] = b""
    write(path, entries)


QUANTIZED = "x = torch.quantize_per_tensor(torch.ones([1, 400000, 2, 2]), 0.1, 0, 13)\n"
WEIGHTS = (
    "w = torch.quantize_per_channel(torch.ones([4, 4, 3, 3]), torch.ones([4]), "
    "torch.zeros([4], dtype=4), 0, 12)\n"
)

FILES = {
    # writes a file
    "int_writes": function_named_int("  torch.save(1, path)"),
    "long_folder_writes": long_folder,
    "setstate_writes": lambda path, target: models.save(
        models.WritesFileOnLoading(str(target)), path
    ),
    "forward_writes": program(
        'q = torch.from_file("@TARGET@", True, 64, dtype=0)\n' + used("int(q[0])")
    ),
    "other_method_writes": lambda path, target: models.save(
        models.WritesFileInAnotherMethod(str(target)), path
    ),
    # reads or overwrites memory
    "storage_reads": short_storage(Reads),
    "storage_overwrites": short_storage(Overwrites),
    # time and memory, at each stage
    "vetting_endless": function_named_int("  n = 0\n  while True:\n    n = torch.add(n, 1)"),
    "vetting_memory": function_named_int("  q = torch.size(torch.ones([1073741824]), 0)"),
    "load_endless": scripted(lambda: AtLoad(False)),
    "load_memory": scripted(lambda: AtLoad(True)),
    "first_batch_endless": scripted(lambda: When(False, 1, False)),
    "first_batch_memory": scripted(lambda: When(True, 1, False)),
    "warm_up_endless": scripted(lambda: When(False, 2, False)),
    "warm_up_memory": scripted(lambda: When(True, 2, False)),
    "inference_endless": scripted(lambda: When(False, 1, True)),
    "inference_memory": scripted(lambda: When(True, 1, True)),
    "huge_tensor": program("q = torch.zeros([4611686018427387904])\n" + used("torch.size(q, 0)")),
    # integer arithmetic that no processor does
    "remainder_by_0": program(ZERO + "q = torch.remainder(7, z)\n" + used("q")),
    "division_by_0": program(ZERO + "q = torch.__round_to_zero_floordiv(7, z)\n" + used("q")),
    "floordiv_least": program(LEAST + "q = torch.floordiv(m, -1)\n" + used("q")),
    "round_to_zero_least": program(
        LEAST
        + "q = torch.__round_to_zero_floordiv(m, torch.sub(torch.size(y, 4), 3))\n"
        + used("q")
    ),
    "remainder_least": program(
        LEAST + "q = torch.remainder(m, torch.sub(torch.size(y, 4), 3))\n" + used("q")
    ),
    "tensor_division_least": program(
        "a = torch.full([64], torch.mul(torch.__lshift__(1, 62), -2), dtype=4)\n"
        "b = torch.full([64], -1, dtype=4)\nq = torch.floor_divide(a, b)\n"
        "r = torch.remainder(a, b)\n" + used("int(q[0])") + "\n" + used("int(r[0])")
    ),
    # operators that check no sizes or indices
    "lu_pivots": program(
        "piv = torch.full([4], 200000000, dtype=3)\n"
        "x = torch.linalg_lu_solve(torch.eye(4), piv, torch.ones([4, 2]))\n" + used("int(x[0, 0])")
    ),
    "searchsorted_sorter": program(
        "srt = torch.full([1000], 100000000000, dtype=4)\n"
        "q = torch.searchsorted(torch.arange(1000), torch.full([100], 500, dtype=4), sorter=srt)\n"
        + used("int(q[0])")
    ),
    "repeat_interleave_size": program(
        "q = torch.repeat_interleave(torch.full([1000], 10000, dtype=4), output_size=10)\n"
        + used("int(q[0])")
    ),
    "batch_norm_sizes": program(
        "w = torch.ones([1])\nx = torch.ones([1, 4000000, 2, 2])\n"
        "a, b, c = torch.native_batch_norm(x, w, w, w, w, False, 0.1, 1.0e-05)\n"
        + used("int(a[0, 0, 0, 0])")
    ),
    "attention_0_heads": program(
        "x = torch.ones([1, 4, 8])\nw = torch.ones([24, 8])\nb = torch.ones([24])\n"
        "o = torch.ones([8, 8])\nc = torch.ones([8])\n"
        "a, d = torch._native_multi_head_attention(x, x, x, 8, torch.sub(torch.size(y, 4), 2), "
        "w, b, o, c)\n" + used("int(a[0, 0, 0])")
    ),
    "convolution_stride_0": program(
        "a = torch.conv2d(torch.ones([1, 4, 8, 8]), torch.ones([4, 4, 3, 3]), None, "
        "[torch.sub(torch.size(y, 4), 2), 0])\n" + used("int(a[0, 0, 0, 0])")
    ),
    "pixel_shuffle_0": program(
        "a = torch.pixel_unshuffle(torch.ones([1, 4, 8, 8]), torch.sub(torch.size(y, 4), 2))\n"
        + used("int(a[0, 0, 0, 0])")
    ),
    "quantize_per_channel_sizes": program(
        "q = torch.quantize_per_channel(torch.ones([100000, 100]), torch.ones([1]), "
        "torch.zeros([1], dtype=4), 0, 12)\n" + used("int(torch.dequantize(q)[0, 0])")
    ),
    "quantized_bias_sizes": program(
        WEIGHTS + "pk = ops.quantized.conv2d_prepack(w, torch.ones([1]), [1, 1], [1, 1], [1, 1], 1)"
        "\nx = torch.quantize_per_tensor(torch.ones([1, 4, 8, 8]), 0.1, 0, 13)\n"
        "q = ops.quantized.conv2d(x, pk, 0.1, 0)\n" + used("int(torch.dequantize(q)[0, 0, 0, 0])")
    ),
    "quantized_groups_0": program(
        WEIGHTS + "pk = ops.quantized.conv2d_prepack(w, torch.ones([4]), [1, 1], [1, 1], [1, 1], "
        "torch.sub(torch.size(y, 4), 2))\n"
        "x = torch.quantize_per_tensor(torch.ones([1, 4, 8, 8]), 0.1, 0, 13)\n"
        "q = ops.quantized.conv2d(x, pk, 0.1, 0)\n" + used("int(torch.dequantize(q)[0, 0, 0, 0])")
    ),
    "quantized_batch_norm_sizes": program(
        QUANTIZED + "w = torch.ones([1])\n"
        "q = ops.quantized.batch_norm2d(x, w, w, w, w, 1.0e-05, 0.1, 0)\n"
        + used("int(torch.dequantize(q)[0, 0, 0, 0])")
    ),
    # casts that nobody checks
    "cast_of_tuple": program(
        "u = unchecked_cast(Tuple[int, int, int, int, int, int, int, int], (torch.size(y, 0),))\n"
        "a, b, c, d, e, f, g, h = u\n" + used("h")
    ),
    "cast_of_integer": program(
        "u = unchecked_cast(Tensor, torch.mul(torch.size(y, 4), 32769))\n"
        + used("torch.size(u, 0)")
    ),
    "cast_of_class": program(
        "u = unchecked_cast(__torch__.receiver_models.Large, "
        "__torch__.receiver_models.Small(torch.size(y, 0)))\n" + used("torch.size(u.h, 0)"),
        "class Small:\n  a : int\n"
        "  def __init__(self: __torch__.receiver_models.Small, a: int) -> NoneType:\n"
        "    self.a = a\n    return None\n"
        "class Large:\n  a : int\n  b : int\n  c : int\n  d : int\n  e : int\n  f : int\n"
        "  g : int\n  h : Tensor\n"
        "  def __init__(self: __torch__.receiver_models.Large, h: Tensor) -> NoneType:\n"
        "    self.h = h\n    return None\n",
    ),
    # nesting that exhausts a parser's or an interpreter's stack
    "deep_parentheses": program("z = " + "(" * 200_000 + "1" + ")" * 200_000),
    "deep_minus": program("z = " + "-" * 300_000 + "1"),
    "deep_if": program(
        "\n".join("  " * i + "if True:" for i in range(3000)) + "\n" + "  " * 3000 + "pass"
    ),
    "deep_type": program("z = annotate(" + "List[" * 100_000 + "int" + "]" * 100_000 + ", [])"),
    "long_sum": program("z = " + "+".join(["1"] * 200_000)),
    "recursion": program(
        "q = __torch__.receiver_models.rec(3)\n" + used("q"),
        "def rec(x: int) -> int:\n  return __torch__.receiver_models.rec(torch.add(x, 1))\n",
    ),
    # graphs
    "ir_mod_by_0": graph(_mod(7, 0)),
    "ir_mod_least": graph(_mod(-(2**31), -1)),
    "ir_mod_by_0_folded": graph(_folded("mod", 7, 0)),
    "ir_mod_least_folded": graph(_folded("mod", -(2**31), -1)),
    "ir_floor_mod_by_0_folded": graph(_folded("floor_mod", 7, 0)),
    "ir_division_by_0_folded": graph(_folded("divide", 7, 0)),
    "ir_division_least_folded": graph(_folded("divide", -(2**31), -1)),
    "ir_gather_outside": graph(_gather),
    "ir_gather_nd_outside": graph(_gather_nd),
    "ir_scatter_outside": graph(_scatter),
    "ir_convolution_stride_0": graph(_convolution, ('strides="1, 1"', 'strides="0, 0"')),
    "ir_attention": graph(_attention),
    "ir_memory": graph(_broadcast),
    # two readers
    "two_deeprx_json": two_readers,
}

ENDLESS = {name for name in FILES if name.endswith("_endless")}
# Of the others, a receiver may make of a program's errors what it likes
REFUSED = ENDLESS | {
    "int_writes", "long_folder_writes", "setstate_writes", "forward_writes", "other_method_writes",
    "storage_reads", "storage_overwrites", "vetting_memory", "load_memory", "first_batch_memory",
    "warm_up_memory", "inference_memory", "huge_tensor", "recursion", "deep_parentheses",
    "two_deeprx_json",
}  # fmt: skip
