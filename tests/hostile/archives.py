#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Model files for the two readers of the archive, in Python and in C++, which must judge all alike.

GOOD and BAD hold a function by name that gives a file's bytes. archives.py FOLDER writes them to
FOLDER/good and FOLDER/bad. Needs no torch.
"""

import io
import json
import struct
import sys
import warnings
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models" / "baseline-lmmse.pt"
RULES = ROOT / "python" / "common" / "deeprx_common" / "model_rules.json"
LIMITS: dict[str, int] = json.loads(RULES.read_text())["limits"]
METADATA = {
    "contract": "deeprx.model/2",
    "name": "test",
    "requires": [],
    "quantized_engine": None,
    "layers": [1],
    "n_rx": [2],
    "n_prb": [6, 273],
    "prb_multiple_of": 1,
    "n_sym": [14],
    "dmrs": None,
    "n_dmrs": [1, 2],
    "cdm_groups": [1],
    "modulations": ["16QAM"],
    "bits": 4,
}
CODE = b"""class A(Module):
  __parameters__ = ["w", ]
  __buffers__ = []
  w : Tensor
  training : bool
  def forward(self: __torch__.a.A,
    y: Tensor,
    p: Tensor,
    d: Tensor,
    bits: List[int]) -> Tensor:
    w = self.w
    return torch.add(y, w)
"""
IR = """<?xml version="1.0"?>
<net name="n" version="11"><layers>
<layer id="0" name="c" type="Const" version="opset1">
<data element_type="f32" shape="4" offset="0" size="16" /></layer>
</layers><edges/></net>"""


def text(of: str | bytes) -> bytes:
    data = of.encode() if isinstance(of, str) else of
    return b"X" + struct.pack("<I", len(data)) + data


def number(n: int) -> bytes:
    return b"J" + struct.pack("<i", n) if abs(n) < 2**31 else b"\x8a\x08" + struct.pack("<q", n)


def numbers(of) -> bytes:
    return b"(" + b"".join(map(number, of)) + b"t"


def name(of: str) -> bytes:
    module, _, last = of.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def storage(key="0", kind="Float", elements=4) -> bytes:
    saved = text("storage") + name(f"torch.{kind}Storage") + text(key) + text("cpu")
    return b"(" + saved + number(elements) + b"tQ"


def tensor(of=None, offset=0, size=(4,), stride=(1,), quantizer=b"") -> bytes:
    rebuild = "_rebuild_qtensor" if quantizer else "_rebuild_tensor_v2"
    rest = b"\x89" + name("collections.OrderedDict") + b")R"
    arguments = (storage() if of is None else of) + number(offset) + numbers(size) + numbers(stride)
    return name(f"torch._utils.{rebuild}") + b"(" + arguments + quantizer + rest + b"tR"


def attributes(**of: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in of.items()) + b"u"


def module(**of: bytes) -> bytes:
    state = attributes(**({"w": tensor(), "training": b"\x89"} | of))
    return b"\x80\x02" + name("__torch__.a.A") + b")\x81" + state + b"b."


def constant(of: bytes) -> bytes:
    return b"\x80\x02" + of + b"\x85."


def records() -> dict[str, bytes]:
    """A small model's."""
    return {
        "extra/deeprx.json": json.dumps(METADATA).encode(),
        "data/0": struct.pack("<4f", 1, 2, 3, 4),
        "data.pkl": module(),
        "code/__torch__/a.py": CODE,
        "constants.pkl": b"\x80\x02).",
        "version": b"3\n",
        "byteorder": b"little",
    }


def zipped(of: dict[str, bytes], folder="m", deflated=("code/",)) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for record, data in of.items():
            info = zipfile.ZipInfo(f"{folder}/{record}" if folder else record)
            if record.startswith(deflated):
                info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return out.getvalue()


def model(**changed: bytes) -> bytes:
    """A small model whose records data, constants, code, json, xml are replaced."""
    places = {
        "data": "data.pkl",
        "constants": "constants.pkl",
        "code": "code/__torch__/a.py",
        "json": "extra/deeprx.json",
        "version": "version",
        "byteorder": "byteorder",
    }
    new = {places[key]: value for key, value in changed.items() if key in places}
    if "xml" in changed:
        new |= {"extra/openvino/bits4.xml": changed["xml"], "extra/openvino/bits4.bin": bytes(16)}
    return zipped(records() | new)


def with_record(record: str, data: bytes = b"x", **more) -> bytes:
    return zipped(records() | {record: data}, **more)


def without(record: str) -> bytes:
    return zipped({n: d for n, d in records().items() if n != record})


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<" + form, changed, at, value)
    return bytes(changed)


def end_of(data: bytes) -> int:
    return len(data) - 22


def central_of(data: bytes) -> int:
    return struct.unpack_from("<I", data, end_of(data) + 16)[0]


def of_entry(data: bytes, record: str) -> tuple[int, int]:
    """Where a record's entry in the list and its local header are."""
    at = central_of(data)
    while not data[at + 46 :].startswith(f"m/{record}".encode()):
        at += 46 + sum(struct.unpack_from("<HHH", data, at + 28))
    return at, struct.unpack_from("<I", data, at + 42)[0]


def zip64(data: bytes) -> bytes:
    """With the further end that LibTorch writes."""
    count, size, at = struct.unpack_from("<HII", data, end_of(data) + 10)
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, at)
    locator = struct.pack("<IIQI", 0x07064B50, 0, end_of(data), 1)
    return data[:-22] + end + locator + data[-22:]


def told_later(data: bytes) -> bytes:
    """Checksums and sizes behind the data, as LibTorch writes them: not in the local headers."""
    changed = bytearray(data)
    at = central_of(data)
    while at < end_of(data):
        local = struct.unpack_from("<I", data, at + 42)[0]
        changed[at + 8] |= 8
        changed[local + 6] |= 8
        changed[local + 14 : local + 26] = bytes(12)
        at += 46 + sum(struct.unpack_from("<HHH", data, at + 28))
    return bytes(changed)


def swapped_name(old: str, new: str) -> bytes:
    """The record is named so in its local header, the list is not."""
    data = model()
    _, local = of_entry(data, old)
    return data[: local + 30] + f"m/{new}".encode() + data[local + 30 + len(f"m/{new}") :]


def overlapping() -> bytes:
    """A record within another one's data, each with the headers of its own."""
    inner = zipped({"extra/b": b"inner"})
    data = with_record("extra/a", inner)
    at = struct.unpack_from("<I", inner, end_of(inner) + 16)[0]
    entry, where = inner[at : end_of(inner)], data.find(inner)
    size = struct.unpack_from("<I", data, end_of(data) + 12)[0]
    end = data[end_of(data) :]
    for form, offset, value in (("H", 8, 9), ("H", 10, 9), ("I", 12, size + len(entry))):
        end = patched(end, offset, form, value)
    return data[:-22] + patched(entry, 42, "I", where) + end


def inflated_to(size: int, declared: int) -> bytes:
    """Code that inflates to size bytes and says that it is declared long."""
    data = zipped(records() | {"code/__torch__/b.py": b"\n" * size})
    at, local = of_entry(data, "code/__torch__/b.py")
    return patched(patched(data, at + 24, "I", declared), local + 22, "I", declared)


def two_tops() -> bytes:
    first = records()
    return zipped({f"a/{n}": d for n, d in first.items()} | {"b/version": b"3\n"}, folder="")


def upper_json() -> bytes:
    return with_record("Extra/deeprx.json", b"{}")


def twice() -> bytes:
    out = io.BytesIO(model())
    with zipfile.ZipFile(out, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("m/extra/deeprx.json", json.dumps(METADATA | {"name": "other"}))
    return out.getvalue()


def metadata(**changed) -> bytes:
    return model(json=json.dumps(METADATA | changed).encode())


def raw_json(inside: str | bytes) -> bytes:
    data = inside.encode("utf-8", "surrogatepass") if isinstance(inside, str) else inside
    return model(json=json.dumps(METADATA).encode()[:-1] + b', "x": ' + data + b"}")


def code(line: str, indent=4) -> bytes:
    return model(code=CODE + b" " * indent + line.encode() + b"\n")


def quantised(quantizer: bytes, size=(2, 2), stride=(2, 1)) -> bytes:
    whole = records() | {
        "data/1": bytes(4),
        "data/2": struct.pack("<2d", 1, 1),
        "data/3": struct.pack("<2q", 0, 0),
    }
    whole["data.pkl"] = module(
        q=tensor(storage("1", "QInt8", 4), size=size, stride=stride, quantizer=quantizer)
    )
    return zipped(whole)


def channels(axis: int, n: int = 2) -> bytes:
    scales = tensor(storage("2", "Double", 2), size=(n,))
    zeros = tensor(storage("3", "Long", 2), size=(n,))
    return b"(" + name("torch.per_channel_affine") + scales + zeros + number(axis) + b"t"


def halves(n: int) -> bytes:
    """A tuple of itself twice, n times: 2^n values in a few bytes."""
    return b")" + b"".join(b"q\x01h\x01\x86" for _ in range(n))


def long_type_model(depth: int) -> bytes:
    kind = text("List[" * depth + "int" + "]" * depth)
    return model(
        constants=constant(name("torch.jit._pickle.restore_type_tag") + b"]" + kind + b"\x86R")
    )


def layer(kind="Add", inside="", opset="opset1") -> str:
    return f'<layer id="1" name="l" type="{kind}" version="{opset}">{inside}</layer>'


def ir(layers: str = "", data: str | None = None) -> bytes:
    xml = IR.replace("</layers>", layers + "</layers>")
    if data is not None:
        xml = xml.replace('<data element_type="f32" shape="4" offset="0" size="16" />', data)
    return model(xml=xml.encode())


def attributes_of(n: int) -> str:
    return "<a " + " ".join(f'a{i}=""' for i in range(n)) + "/>"


def many_irs() -> bytes:
    """Each as long as it may be, and one more of them than there may be."""
    xml = IR.replace("</net>", "</net>" + " " * (LIMITS["xml_bytes"] - len(IR)))
    each = {"xml": xml, "bin": bytes(16)}
    n = LIMITS["all_xml_bytes"] // len(xml) + 1
    return zipped(
        records()
        | {f"extra/openvino/{k}.{end}": data for k in range(n) for end, data in each.items()}
    )


def largest() -> bytes:
    """As large as may be in all at once, with what takes most memory."""
    eighth = (LIMITS["code_bytes"] - len(CODE)) // 8
    meant = json.dumps(METADATA)[:-1]
    n_keys = (LIMITS["json_bytes"] - len(meant) - 1) // len(',"00000":{}')
    tag = '<?xml version="1.0"?><net version="11"><layers/><a b="%s"/></net>'
    xml = tag % ("x" * (LIMITS["xml_bytes"] - len(tag) + 2))
    values = range(50, LIMITS["pickle_values"])
    pickled = b"(" + b"".join(b"}r" + struct.pack("<I", n) for n in values)
    n_again = (LIMITS["pickle_bytes"] - len(module(v=pickled))) // 2
    pickled += b"h\x32" * (n_again - 1) + b"t"
    whole = records() | {
        "code/__torch__/b.py": "a = 1\n" * (eighth // 6),
        "code/__torch__/c.py": repr("a" * (7 * eighth - 2)),
        "constants.pkl": constant(pickled),
        "data.pkl": module(v=pickled),
        "extra/deeprx.json": meant + "".join(f',"{n:05x}":{{}}' for n in range(n_keys)) + "}",
    }
    whole |= {f"extra/openvino/{n}.xml": xml for n in range(LIMITS["all_xml_bytes"] // len(xml))}
    for n in range(LIMITS["records"] - len(whole)):
        whole[f"extra/{'x' * 200}{n}"] = b""
    return zipped(whole)


GOOD = {
    "largest": largest,
    "small": lambda: model(),
    "shipped": SHIPPED.read_bytes,
    "shipped-anew": lambda: zipped_as(SHIPPED),
    "zip64": lambda: zip64(model()),
    "told-later": lambda: told_later(model()),
    "stored-code": lambda: zipped(records(), deflated=()),
    "debugging-left-out": lambda: with_record("code/__torch__/a.py.debug_pkl", b"no pickle"),
    "dot-records": lambda: with_record(".data/serialization_id", b"1"),
    "other-extra": lambda: with_record("extra/notes.txt", b"\x00"),
    "openvino": lambda: model(xml=IR.encode()),
    "ir-text-as-deep-as-allowed": lambda: ir("<a>" * 14 + "text" + "</a>" * 14),
    "ir-spaces-and-quotes": lambda: ir("<a\n b='\"'\tc=\"'\" > x </a\r>"),
    "ir-attributes": lambda: ir(attributes_of(64)),
    "openvino-layers": lambda: ir(layer() + layer("SoftMax", "<data axis='1'/>", "opset8")),
    "version-without-newline": lambda: model(version=b"10"),
    "without-byteorder": lambda: without("byteorder"),
    "control-newlines-in-json": lambda: metadata(recipe="a\n\tb"),
    "json-as-deep-as-allowed": lambda: raw_json("[" * 31 + "]" * 31),
    "json-large-number": lambda: raw_json("1e308"),
    "json-umlaut": lambda: raw_json('"\u00fcber"'),
    "code-as-deep-as-allowed": lambda: code("z = " + "(" * 250 + "1" + ")" * 250),
    "code-long-list": lambda: code("z = [" + "-1, " * 3000 + "1]"),
    "code-string": lambda: code("z = 'it\\'s; # [ \"fine\"'"),
    "code-empty-string": lambda: code("z = [\"\", '']"),
    "code-indented-as-far-as-allowed": lambda: code("pass", indent=128),
    "pickle-values": lambda: model(
        constants=b"\x80\x02("
        + number(-1)
        + number(2**40)
        + b"G?\xf0\x00\x00\x00\x00\x00\x00N\x88"
        + text("t")
        + name("torch.device")
        + text("cpu")
        + b"\x85R"
        + name("torch.jit._pickle.build_intlist")
        + b"](K\x01K\x02e\x85R"
        + b"t."
    ),
    "pickle-as-deep-as-allowed": lambda: model(constants=constant(b")" + b"\x85" * 62)),
    "pickle-shared": lambda: model(constants=constant(halves(10))),
    "pickle-type": lambda: long_type_model(5),
    "tensor-view": lambda: model(data=module(v=tensor(offset=1, size=(1, 2), stride=(7, 2)))),
    "tensor-expanded": lambda: model(data=module(v=tensor(size=(5, 4), stride=(0, 1)))),
    "tensor-empty": lambda: model(data=module(v=tensor(size=(3, 0), stride=(9, 1)))),
    "quantised-tensor": lambda: quantised(
        b"(" + name("torch.per_tensor_affine") + b"G" + struct.pack(">d", 0.1) + number(3) + b"t"
    ),
    "quantised-channels": lambda: quantised(channels(0)),
}

BAD = {
    # the ZIP archive
    "empty": lambda: b"",
    "text": lambda: b"<html>" * 100,
    "only-an-end": lambda: b"PK\x05\x06" + bytes(18),
    "cut": lambda: model()[:-30],
    "cut-in-the-end": lambda: model()[:-1],
    "something-behind": lambda: model() + b"x",
    "something-before": lambda: b"x" + model(),
    "comment": lambda: patched(model() + b"c", len(model()) - 2, "H", 1),
    "more-records-than-listed": lambda: patched(
        patched(model(), end_of(model()) + 8, "H", 3), end_of(model()) + 10, "H", 3
    ),
    "fewer-records-than-listed": lambda: patched(
        patched(model(), end_of(model()) + 8, "H", 99), end_of(model()) + 10, "H", 99
    ),
    "many-records": lambda: zipped(
        records() | {f"extra/{n}": b"" for n in range(LIMITS["records"])}
    ),
    "two-ends": lambda: zip64(model())[:-22] + patched(model(), end_of(model()) + 16, "I", 7)[-22:],
    "zip64-elsewhere": lambda: patched(
        zip64(model()), len(zip64(model())) - 22 - 20 + 8, "Q", 2**63
    ),
    "disk-2": lambda: patched(model(), end_of(model()) + 4, "H", 1),
    "name-long": lambda: zipped(records(), folder="A" * 506),
    "name-with-escape": lambda: with_record("extra/a\x1b[2J"),
    "name-with-space": lambda: with_record("extra/a b"),
    "name-not-ascii": lambda: with_record("extra/\u00fc"),
    "name-with-backslash": lambda: with_record("extra/a\\b"),
    "name-up": lambda: with_record("extra/../data.pkl"),
    "name-dot": lambda: with_record("extra/./a"),
    "name-empty-part": lambda: with_record("extra//a"),
    "name-absolute": lambda: zipped(records(), folder="/m"),
    "folder-entry": lambda: with_record("extra/", b""),
    "no-folder": lambda: zipped(records(), folder=""),
    "two-folders": two_tops,
    "second-json": twice,
    "other-case": upper_json,
    "other-case-code": lambda: with_record("code/__torch__/A.py", CODE),
    "local-name-differs": lambda: swapped_name("version", "Version"),
    "local-size-differs": lambda: patched(model(), of_entry(model(), "version")[1] + 22, "I", 1),
    "local-checksum-differs": lambda: patched(
        model(), of_entry(model(), "version")[1] + 14, "I", 1
    ),
    "local-method-differs": lambda: patched(model(), of_entry(model(), "version")[1] + 8, "H", 8),
    "local-elsewhere": lambda: patched(model(), of_entry(model(), "version")[0] + 42, "I", 2**31),
    "overlap": overlapping,
    "encrypted": lambda: patched(
        patched(model(), of_entry(model(), "version")[0] + 8, "H", 1),
        of_entry(model(), "version")[1] + 6,
        "H",
        1,
    ),
    "bzip2": lambda: patched(
        patched(model(), of_entry(model(), "version")[0] + 10, "H", 12),
        of_entry(model(), "version")[1] + 8,
        "H",
        12,
    ),
    "checksum": lambda: model().replace(b"little", b"Little"),
    "deflated-weights": lambda: zipped(records(), deflated=("data/",)),
    "deflated-json": lambda: zipped(records(), deflated=("extra/",)),
    "deflated-bomb": lambda: with_record("extra/b", bytes(1 << 22), deflated=("extra/",)),
    "code-bomb": lambda: zipped(records() | {"code/__torch__/b.py": b"\n" * LIMITS["code_bytes"]}),
    "code-inflates-to-more": lambda: inflated_to(1 << 20, 10),
    "code-inflates-to-less": lambda: inflated_to(10, 1 << 20),
    "torch-save": lambda: without("constants.pkl"),
    "no-program": lambda: without("data.pkl"),
    "no-version": lambda: without("version"),
    "version-text": lambda: model(version=b"new"),
    "version-empty": lambda: model(version=b""),
    "big-endian": lambda: model(byteorder=b"big"),
    "old-format": lambda: with_record("model.json", b"{}"),
    "unknown-record": lambda: with_record("bytecode.pkl"),
    "data-not-a-number": lambda: with_record("data/x"),
    "code-in-another-language": lambda: with_record("code/a.txt"),
    # deeprx.json
    "json-missing": lambda: without("extra/deeprx.json"),
    "json-empty": lambda: model(json=b""),
    "json-cut": lambda: model(json=b'{"contract": '),
    "json-list": lambda: model(json=b"[]"),
    "json-number": lambda: model(json=b"1"),
    "json-behind": lambda: model(json=b"{} {}"),
    "json-zeros-behind": lambda: model(json=json.dumps(METADATA).encode() + b"\0\0"),
    "json-deep": lambda: model(json=b"[" * 10**6),
    "json-just-too-deep": lambda: raw_json("[" * 32 + "]" * 32),
    "json-long": lambda: raw_json('"' + "x" * LIMITS["json_bytes"] + '"'),
    "json-twice": lambda: raw_json('1, "name": "other"'),
    "json-twice-inside": lambda: raw_json('{"a": 1, "a": 2}'),
    "json-nan": lambda: raw_json("NaN"),
    "json-infinity": lambda: raw_json("Infinity"),
    "json-beyond-double": lambda: raw_json("1e999"),
    "json-400-digits": lambda: raw_json("9" * 400),
    "json-10000-digits": lambda: raw_json("9" * 10000),
    "json-escape-sequence": lambda: metadata(name="a\x1b[2J"),
    "json-escape-sequence-c1": lambda: metadata(name="a\x9b2J"),
    "json-escape-sequence-in-key": lambda: metadata(**{"\x1b]0;": 1}),
    "json-nul": lambda: metadata(name="a\0b"),
    "json-carriage-return": lambda: metadata(name="a\rb"),
    "json-turned-text": lambda: metadata(licence="a\u202eb"),
    "json-turned-key": lambda: raw_json('{"a\u202eb": 1}'),
    "json-other-space": lambda: raw_json('"\u2003"'),
    "json-private-character": lambda: raw_json('"\ue000"'),
    "json-half-a-character": lambda: raw_json('"\\ud800"'),
    "json-not-utf8": lambda: raw_json(b'"\xff"'),
    "json-utf16": lambda: model(json=json.dumps(METADATA).encode("utf-16")),
    "json-byte-order-mark": lambda: model(json=b"\xef\xbb\xbf" + json.dumps(METADATA).encode()),
    # pickles
    "pickle-empty": lambda: model(constants=b""),
    "pickle-no-protocol": lambda: model(constants=b")."),
    "pickle-protocol-4": lambda: model(constants=b"\x80\x04)."),
    "pickle-no-stop": lambda: model(constants=b"\x80\x02)"),
    "pickle-only-stop": lambda: model(constants=b"\x80\x02."),
    "pickle-behind": lambda: model(constants=b"\x80\x02).N"),
    "pickle-two-values": lambda: model(constants=b"\x80\x02))."),
    "pickle-of-a-number": lambda: model(constants=b"\x80\x02K\x01."),
    "data-of-a-number": lambda: model(data=b"\x80\x02K\x01."),
    "pickle-open-mark": lambda: model(constants=b"\x80\x02()."),
    "pickle-long": lambda: model(constants=constant(text(b"x" * LIMITS["pickle_bytes"]))),
    "pickle-many-values": lambda: model(
        constants=b"\x80\x02(" + b"N" * (LIMITS["pickle_values"] + 1) + b"t."
    ),
    "pickle-deep-tuple": lambda: model(constants=constant(b")" + b"\x85" * 300000)),
    "pickle-just-too-deep": lambda: model(constants=constant(b")" + b"\x85" * 63)),
    "pickle-deep-list": lambda: model(constants=constant(b"]" * 300000 + b"a" * 299999)),
    "pickle-shared-too-often": lambda: model(constants=constant(halves(30))),
    "pickle-list-in-itself": lambda: model(constants=constant(b"]q\x01h\x01a")),
    "pickle-list-after-use": lambda: model(constants=constant(b"]q\x01\x85h\x01K\x01a\x86")),
    "pickle-op-pop": lambda: model(constants=b"\x80\x02" + b"0" * 10),
    "pickle-op-dup": lambda: model(constants=constant(b")2\x86")),
    "pickle-op-reduce": lambda: model(constants=b"\x80\x02NR."),
    "pickle-op-build": lambda: model(constants=b"\x80\x02Nb."),
    "pickle-op-binget": lambda: model(constants=b"\x80\x02h\x99."),
    "pickle-op-longbinget": lambda: model(constants=b"\x80\x02j\xff\xff\xff\x7f."),
    "pickle-op-longbinput": lambda: model(constants=constant(b")r\xff\xff\xff\x7f")),
    "pickle-op-appends": lambda: model(constants=b"\x80\x02e."),
    "pickle-op-setitems": lambda: model(constants=b"\x80\x02Nu."),
    "pickle-op-setitem": lambda: model(constants=b"\x80\x02}Ns\x85."),
    "pickle-op-mark": lambda: model(constants=b"\x80\x02t."),
    "pickle-op-unicode": lambda: model(constants=b"\x80\x02X\xff\xff\xff\x7fabc"),
    "pickle-op-long1": lambda: model(constants=b"\x80\x02\x8a\xffabc"),
    "pickle-op-tuple3": lambda: model(constants=b"\x80\x02N\x87."),
    "pickle-below-the-mark": lambda: model(constants=b"\x80\x02N(\x85t."),
    "pickle-global-os": lambda: model(
        constants=constant(name("posix.system") + text("x") + b"\x85R")
    ),
    "pickle-global-as-number": lambda: model(constants=constant(b"K\x00)R")),
    "pickle-global-without-end": lambda: model(constants=b"\x80\x02cos"),
    "pickle-sparse": lambda: model(
        constants=constant(name("torch._utils._rebuild_sparse_tensor") + b")R")
    ),
    "pickle-subclass": lambda: model(
        constants=constant(name("torch._tensor._rebuild_from_type_v2") + b")R")
    ),
    "pickle-object-without-state": lambda: model(
        constants=constant(name("__torch__.a.A") + b")\x81")
    ),
    "pickle-object-of-another-class": lambda: model(
        constants=constant(name("torch.nn.Linear") + b")\x81}b")
    ),
    "pickle-key-a-list": lambda: model(constants=constant(b"}](N" + b"t" + b"s")),
    "pickle-key-without-value": lambda: model(constants=constant(b"}(Nu")),
    "pickle-type-deep": lambda: long_type_model(100000),
    "pickle-type-just-too-deep": lambda: long_type_model(17),
    "pickle-type-of-a-number": lambda: model(
        constants=constant(
            name("torch.jit._pickle.restore_type_tag") + b"K\x01" + text("List[int]") + b"\x86R"
        )
    ),
    "pickle-type-with-a-call": lambda: model(
        constants=constant(
            name("torch.jit._pickle.restore_type_tag") + b"]" + text("List[f()]") + b"\x86R"
        )
    ),
    "pickle-texts-as-integers": lambda: model(
        constants=constant(name("torch.jit._pickle.build_intlist") + b"](" + text("a") + b"e\x85R")
    ),
    "pickle-texts-as-integers-with-a-type": lambda: model(
        constants=constant(
            name("torch.jit._pickle.build_intlist")
            + name("torch.jit._pickle.restore_type_tag")
            + (b"](" + text("a") + b"e" + text("List[str]") + b"\x86R")
            + b"\x85R"
        )
    ),
    "pickle-reals-as-integers": lambda: model(
        constants=constant(
            name("torch.jit._pickle.build_intlist")
            + (name("torch.jit._pickle.build_doublelist") + b"](G" + bytes(8) + b"e\x85R")
            + b"\x85R"
        )
    ),
    "pickle-integers-as-tensors": lambda: model(
        constants=constant(name("torch.jit._pickle.build_tensorlist") + b"](K\x01e\x85R")
    ),
    # storages and tensors
    "storage-longer-than-record": lambda: model(
        data=module(w=tensor(storage(elements=4096), size=(4096,)))
    ),
    "storage-shorter-than-record": lambda: model(
        data=module(w=tensor(storage(elements=1), size=(1,)))
    ),
    "storage-of-no-record": lambda: model(data=module(w=tensor(storage("7")))),
    "storage-of-negative-size": lambda: model(data=module(w=tensor(storage(elements=-1), size=()))),
    "storage-of-other-type": lambda: model(data=module(w=tensor(storage(kind="Double")))),
    "storage-of-unknown-type": lambda: model(data=module(w=tensor(storage(kind="QUInt4x2")))),
    "storage-of-a-path": lambda: model(data=module(w=tensor(storage("../version", "Byte", 2)))),
    "storage-of-odd-record": lambda: zipped(records() | {"data/0": bytes(15)}),
    "storage-of-the-other-folder": lambda: model(constants=constant(tensor())),
    "storage-type-a-number": lambda: model(
        data=module(
            w=tensor(b"(" + text("storage") + b"K\x06" + text("0") + text("cpu") + b"K\x04tQ")
        )
    ),
    "tensor-larger-than-storage": lambda: model(data=module(w=tensor(size=(5,)))),
    "tensor-much-larger": lambda: model(data=module(w=tensor(size=(2**30,)))),
    "tensor-offset": lambda: model(data=module(w=tensor(offset=1))),
    "tensor-negative-offset": lambda: model(data=module(w=tensor(offset=-1))),
    "tensor-stride": lambda: model(data=module(w=tensor(stride=(2,)))),
    "tensor-negative-stride": lambda: model(data=module(w=tensor(offset=3, stride=(-1,)))),
    "tensor-negative-size": lambda: model(data=module(w=tensor(size=(-4,)))),
    "tensor-overflow": lambda: model(data=module(w=tensor(size=(2**62 + 1, 2), stride=(4, 1)))),
    "tensor-of-stride-0": lambda: model(data=module(w=tensor(size=(2**40,), stride=(0,)))),
    "tensor-strides-missing": lambda: model(data=module(w=tensor(size=(2, 2), stride=(1,)))),
    "tensor-many-dimensions": lambda: model(
        data=module(w=tensor(size=(1,) * 17, stride=(1,) * 17))
    ),
    "tensor-offset-of-empty": lambda: model(data=module(w=tensor(offset=9, size=(0,)))),
    "tensor-of-no-storage": lambda: model(data=module(w=tensor(b"K\x01"))),
    "quantised-without-scheme": lambda: quantised(numbers([1, 2, 3])),
    "quantised-axis": lambda: quantised(channels(2)),
    "quantised-few-scales": lambda: quantised(channels(0, n=1)),
    # code
    "code-brackets": lambda: code("z = " + "(" * 200000 + "1" + ")" * 200000),
    "code-just-too-deep": lambda: code("z = " + "(" * 256 + "1" + ")" * 256),
    "code-unary": lambda: code("z = " + "-" * 300000 + "1"),
    "code-not": lambda: code("z = " + "not " * 300000 + "True"),
    "code-sum": lambda: code("z = " + "+".join(["1"] * 200000)),
    "code-sum-over-lines": lambda: code("z = (" + "+\n".join(["1"] * 1000) + ")"),
    "code-attributes": lambda: code("z = a" + ".b" * 1000),
    "code-calls": lambda: code("z = a" + "()" * 1000),
    "code-conditions": lambda: code("z = 1" + " if True else 1" * 300),
    "code-type": lambda: code("z = annotate(" + "List[" * 100000 + "int" + "]" * 100000 + ", [])"),
    "code-blocks": lambda: code("\n".join("  " * i + "if True:" for i in range(300))),
    "code-elif": lambda: code("if a:\n      pass\n    elif b:\n      pass"),
    "code-comment": lambda: code("pass # ("),
    "code-semicolon": lambda: code("a = 1; b = 2"),
    "code-backslash": lambda: code("a = 1 + \\\n  2"),
    "code-tab": lambda: code("\tpass"),
    "code-three-quotes": lambda: code("z = '''('''"),
    "code-open-string": lambda: code("z = 'a"),
    "code-open-bracket": lambda: code("z = (1"),
    "code-wrong-bracket": lambda: code("z = (1]"),
    "code-not-ascii": lambda: code("\u00fc = 1"),
    "code-nul": lambda: code("z = \0"),
    # the OpenVINO IR
    "ir-empty": lambda: model(xml=b""),
    "ir-html": lambda: model(xml=b"<html>"),
    "ir-cut": lambda: model(xml=IR.encode()[:-10]),
    "ir-two-roots": lambda: model(xml=IR.encode() + b"<net/>"),
    "ir-deep": lambda: ir("<a>" * 100000 + "</a>" * 100000),
    "ir-just-too-deep": lambda: ir("<a>" * 15 + "</a>" * 15),
    "ir-layer-if": lambda: ir(layer("If")),
    "ir-layer-of-extension": lambda: ir(layer("Add", opset="extension")),
    "ir-layer-in-const": lambda: ir(
        data='<data element_type="f32" shape="4" offset="0" size="16"><layer id="1" name="n" '
        'type="Add" version="opset1"/></data>'
    ),
    "ir-layer-in-layer": lambda: ir(layer(inside=layer())),
    "ir-body": lambda: ir(layer(inside="<body/>")),
    "ir-constant-outside": lambda: ir(data='<data element_type="f32" offset="1" size="16"/>'),
    "ir-constant-of-texts": lambda: ir(data='<data element_type="string" offset="0" size="16"/>'),
    "ir-constant-without-size": lambda: ir(data='<data element_type="f32" offset="0"/>'),
    "ir-constant-beyond-2-64": lambda: ir(
        data='<data element_type="f32" offset="18446744073709551616" size="2"/>'
    ),
    "ir-comment": lambda: ir("<!-- -->"),
    "ir-entity": lambda: ir(layer("&#65;dd")),
    "ir-doctype": lambda: model(xml=IR.replace("<net", "<!DOCTYPE x><net").encode()),
    "ir-cdata": lambda: ir("<![CDATA[x]]>"),
    "ir-attribute-twice": lambda: ir('<layer type="Add" type="If" version="opset1"/>'),
    "ir-many-attributes": lambda: ir(attributes_of(65)),
    "ir-layers-of-another": lambda: model(
        xml=IR.replace("<layers>", "<x><layers>").replace("</layers>", "</layers></x>").encode()
    ),
    "ir-latin-1": lambda: model(xml=IR.replace("?>", "?>\xe9").encode("latin-1")),
    "ir-end-with-value": lambda: ir('<a b="1"></a b>'),
    "ir-value-without-quotes": lambda: ir("<a b=1/>"),
    "ir-value-with-tag": lambda: ir('<a b="<"/>'),
    "ir-values-without-space": lambda: ir('<a b="1"c="2"/>'),
    "ir-text-before": lambda: model(xml=IR.replace("?>", "?>x").encode()),
    "ir-text-behind": lambda: model(xml=IR.encode() + b"x"),
    "ir-wrong-end": lambda: ir("<a></b>"),
    "ir-nothing-open": lambda: model(xml=IR.encode() + b"</net>"),
    "ir-other-encoding": lambda: model(xml=IR.replace("?>", ' encoding="utf-7"?>').encode()),
    "ir-size-of-many-digits": lambda: ir(
        data=f'<data element_type="f32" offset="{"0" * 5000}" size="16"/>'
    ),
    "ir-version-9": lambda: model(xml=IR.replace('version="11"', 'version="9"').encode()),
    "ir-without-weights": lambda: zipped(records() | {"extra/openvino/bits2.xml": IR.encode()}),
    "ir-long": lambda: ir(" " * LIMITS["xml_bytes"]),
    "ir-many": many_irs,
}


def zipped_as(path: Path) -> bytes:
    """The same records, written by Python."""
    with zipfile.ZipFile(path) as archive:
        return zipped({n.partition("/")[2]: archive.read(n) for n in archive.namelist()})


def write_all(folder: Path) -> None:
    for kind, files in (("good", GOOD), ("bad", BAD)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (folder / kind / f"{file}.pt").write_bytes(data())


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
