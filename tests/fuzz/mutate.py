# SPDX-License-Identifier: GPL-3.0-or-later
"""What strangers could send: valid files and messages with a few things changed at random."""

import io
import json
import math
import random
import struct
import tomllib
import warnings
import zipfile

import pmt

NUMBERS = (
    0, -1, 1, 2, 3, 13, 14, 255, 65536, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -(2**63), 2**64,
    10**30, 0.5, -0.5, 1e-300, 1e308, math.nan, math.inf, -math.inf,
)  # fmt: skip
TEXTS = (
    "", " ", "a" * 5000, "\x1b[2J", "x\ny", "\x00", "é\u202e", "NaN", "../../etc/passwd",
    "/dev/zero", "nan", "1e999", "null", "16QAM", "TDL-A", "cuda", "$\\frac{$ \u6f22", "\ud800",
)  # fmt: skip


def number(draw: random.Random):
    kind = draw.randrange(3)
    if kind == 0:
        return draw.choice(NUMBERS)
    return draw.randrange(-300, 300) if kind == 1 else draw.gauss(0, 10 ** draw.uniform(-12, 12))


def value(draw: random.Random, depth: int = 0):
    """JSON of any kind."""
    kind = draw.randrange(5 if depth > 3 else 8)
    if kind < 2:
        return number(draw)
    if kind < 4:
        return draw.choice(TEXTS)
    if kind == 4:
        return draw.choice((None, True, False))
    if kind == 5:
        return {draw.choice(TEXTS): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    if kind == 6:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    nested = value(draw, 4)
    for _ in range(draw.choice((3, 70, 900))):
        nested = [nested]
    return nested


def octets(draw: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut, doubled or put in."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, n = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 8, 60))
        kind = draw.randrange(6)
        if kind == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            data[at : at + n] = b""
        elif kind == 2:
            data[at:at] = data[at : at + n]
        elif kind == 3:
            data[at:at] = draw.randbytes(n)
        elif kind == 4 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        else:
            number = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65535))
            data[at : at + 4] = struct.pack("<I", number)
    if draw.random() < 0.02:
        del data[draw.randrange(len(data) + 1) :]
    return bytes(data)


def _places(tree):
    """(container, key) of everything in nested JSON."""
    nodes, places = [tree], []
    for node in nodes:
        for key, part in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(part, dict | list):
                nodes.append(part)
    return places


def json_text(draw: random.Random, text: str) -> str:
    """JSON with some of its values replaced, gone, renamed or doubled, or with its text changed."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):  # changed before
        tree = None
    if draw.random() < 0.1 or not isinstance(tree, dict | list):
        return octets(draw, text.encode("utf-8", "surrogatepass")).decode("latin-1")
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        places = _places(tree)
        if not places:
            break
        node, key = draw.choice(places)
        kind = draw.randrange(8)
        if kind == 0:
            del node[key]
        elif kind == 1:
            node[key] = draw.choice(places)[0]
        elif kind == 2 and isinstance(node, dict):
            node[draw.choice(TEXTS)] = node.pop(key)
        elif kind == 3 and isinstance(node, list):
            node.extend(node[: 10 ** draw.randrange(4)])
        elif kind == 4 and isinstance(node[key], int | float):
            node[key] = number(draw)
        else:
            node[key] = value(draw)
        try:
            tree = json.loads(json.dumps(tree))  # no node twice in the tree
        except ValueError:  # in itself
            return json_text(draw, text)
        except RecursionError:
            return "[" * 100_000
    if draw.random() < 0.01:
        tree = value(draw)
    return json.dumps(tree)


def toml_text(draw: random.Random, text: str) -> str:
    """TOML, as json_text() has JSON."""
    if draw.random() < 0.1:
        return octets(draw, text.encode(errors="surrogatepass")).decode("latin-1")
    changed = json_text(draw, json.dumps(tomllib.loads(text)))
    try:
        tree = json.loads(changed)
        return "\n".join(f"{json.dumps(key)} = {_toml(tree[key])}" for key in tree)
    except (ValueError, TypeError, RecursionError):  # no longer a table
        return changed


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(value[key])}" for key in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


WORDS = (
    b"torch.size(y, 0)", b"y", b"p", b"bits", b"self", b"None", b"True", b"int", b"float",
    b"Tensor", b"List[int]", b"Tuple[int, int]", b"annotate(List[int], [])", b"torch.zeros([2])",
    b"-1", b"0",
    b"9223372036854775807", b"2147483648", b"0.0", b"torch.div", b"torch.mul", b"torch.floordiv",
    b"torch.remainder", b"torch.save", b"ops.prim.data", b"uninitialized(Tensor)", b"return",
    b"if True:\n      pass", b"unchecked_cast(Tensor, y)", b"ops.quantized.add", b"__torch__", b"[",
    b"(", b")", b"]", b"torch.ones([100, 100])", b"torch.view", b"torch.reshape", b"torch.cat",
)  # fmt: skip
LAYERS = (
    b"Mod", b"Divide", b"GatherND", b"Gather", b"Reshape", b"Broadcast", b"TopK", b"Loop", b"Const",
    b"Tile", b"Range", b"OneHot", b"ScatterUpdate", b"CumSum", b"DFT", b"Pad", b"StridedSlice",
)  # fmt: skip


def _words(draw: random.Random, text: bytes, words) -> bytes:
    """Source or XML with words of it replaced by others of it, or by odd ones."""
    parts = []
    for part in text.replace(b"(", b" ( ").replace(b'"', b' " ').split(b" "):
        parts.append(part)
    known = [part for part in parts if part.strip() not in (b"", b"(", b'"')]
    for _ in range(draw.choice((1, 1, 2, 4))):
        if known:
            at = draw.randrange(len(parts))
            parts[at] = draw.choice(words) if draw.random() < 0.6 else draw.choice(known)
    return b" ".join(parts).replace(b" ( ", b"(").replace(b' " ', b'"')


def _entry(draw: random.Random, name: str, data: bytes) -> bytes:
    kind = draw.random()
    if name.endswith(".json") and kind < 0.9:
        return json_text(draw, data.decode("latin-1")).encode("utf-8", "surrogatepass")
    if name.endswith(".py") and kind < 0.8:
        return _words(draw, data, WORDS)
    if name.endswith(".xml") and kind < 0.8:
        return _words(draw, data, (*LAYERS, b"0", b"-1", b"99999999999", b"f64", b"i32", b"u1"))
    return octets(draw, data)


# How often a record is changed, of those that parsers and programs read
_READ = {".py": 4, ".xml": 4, ".bin": 2, ".safetensors": 2, "data.pkl": 2, ".json": 1}


def archive(draw: random.Random, entries: dict[str, bytes]) -> bytes:
    """A model file with some of its entries, names or headers changed; checksums fit mostly. Two
    of three are changed in what is parsed alone, so that many come past the archive's reader.
    """
    warnings.simplefilter("ignore", UserWarning)  # zipfile's, about names that come twice
    items = list(entries.items())
    deep = draw.random() < 2 / 3
    for _ in range(draw.choice((1, 1, 1, 2, 4)) if items else 0):
        weights = [sum(_READ[end] for end in _READ if name.endswith(end)) for name, _ in items]
        deep = deep and any(weights)
        at = draw.choices(range(len(items)), weights if deep else None)[0]
        name, data = items[at]
        kind = 0.0 if deep else draw.random()
        if kind < 0.5:
            items[at] = name, _entry(draw, name, data)
        elif kind < 0.6:
            del items[at]
        elif kind < 0.7:
            items.append((name.upper() if draw.random() < 0.5 else name, data))
        elif kind < 0.8:
            items[at] = octets(draw, name.encode(errors="surrogatepass")).decode("latin-1"), data
        elif kind < 0.9:
            items[at] = name, draw.choice(items)[1]
        else:
            items[at] = draw.choice(TEXTS) + name, data
    file = io.BytesIO()
    packed = zipfile.ZIP_DEFLATED if draw.random() < 0.03 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", packed) as target:
        for name, data in items:
            try:
                target.writestr(name, data)
            except (UnicodeEncodeError, ValueError, IndexError, struct.error):  # zipfile's
                target.writestr("odd", data)
    data = file.getvalue()
    if deep:
        return data
    if draw.random() < 0.2:  # headers: sizes, offsets, flags, methods
        data = bytearray(data)
        at = draw.choice([i for i in range(len(data) - 3) if data[i : i + 2] == b"PK"])
        place = at + draw.randrange(4, 46)
        data[place : place + 4] = struct.pack("<I", draw.choice((0, 1, 8, 0xFFFF, 0xFFFFFFFF, at)))
    return bytes(data) if draw.random() < 0.95 else octets(draw, bytes(data))


KEYS = (
    "path", "at_slot", "slot_index", "inference_ns", "cpu_ns", "model", "model_sha256", "engine",
    "engine_cpu_ns", "queue_depth", "batch", "flop_per_slot", "dropped", "model_error",
    "model_loaded", "packet_len", "uhd_async_msg", "event_code", "rnti", "rv", "process",
    "new_data", "crc_ok", "iterations", "ack", "received",
)  # fmt: skip


def message(draw: random.Random, depth: int = 0):
    """A PMT of any kind, with keys that blocks know."""
    kind = draw.randrange(9 if depth > 3 else 16)
    whole = draw.choice([n for n in NUMBERS if isinstance(n, int)])
    if kind == 0:
        return draw.choice((pmt.PMT_NIL, pmt.PMT_T, pmt.PMT_F, pmt.PMT_EOF))
    if kind == 1:
        return pmt.from_long(max(min(whole, 2**63 - 1), -(2**63)))
    if kind == 2:
        return pmt.from_uint64(whole % 2**64)
    if kind == 3:
        return pmt.from_double(float(number(draw)))
    if kind == 4:
        return pmt.from_complex(complex(float(number(draw)), math.nan))
    if kind < 7:
        text = draw.choice((*TEXTS[:-1], *KEYS, "baseline-sure.pt", "/", "{}", "[" * 3000))
        return pmt.intern(text)
    if kind == 7:
        return pmt.init_u8vector(3, [1, 2, 3])
    if kind == 8:
        return pmt.init_f32vector(2, [math.nan, 1.0])
    if kind < 12:
        dictionary = pmt.make_dict()
        for _ in range(draw.randrange(6)):
            key = pmt.intern(draw.choice(KEYS)) if draw.random() < 0.9 else message(draw, depth + 2)
            dictionary = pmt.dict_add(dictionary, key, message(draw, depth + 2))
        return dictionary
    if kind == 12:
        return pmt.cons(message(draw, depth + 1), message(draw, depth + 1))
    if kind == 13:
        return pmt.make_tuple(*(message(draw, depth + 1) for _ in range(draw.randrange(4))))
    if kind == 14:  # a block, of some of the sizes that there are, or a report
        data = draw.randbytes(draw.choice((0, 1, 100, 3842)))
        data = draw.choice((data, data, b"[" * 3000, b'{"points": [{}]}'))
        return pmt.cons(message(draw, depth + 1), pmt.init_u8vector(len(data), list(data)))
    vector = pmt.make_vector(draw.randrange(4), pmt.PMT_NIL)
    for at in range(pmt.length(vector)):
        pmt.vector_set(vector, at, message(draw, depth + 1))
    return vector
