# SPDX-License-Identifier: GPL-3.0-or-later
"""A model file's pickles, followed opcode by opcode without building anything of what they name
(gr-deeprx/lib/engines/pickle_check.h says the same in C++).
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from .model_errors import ModelFileError
from .model_rules import LIMITS, RULES

_STORAGES: dict[str, int] = RULES["pickle_storages"]
_FUNCTIONS = {name: name.rpartition(".")[2] for name in RULES["pickle_functions"]}
_SCHEMES = set(RULES["pickle_schemes"])
_TYPED = {"build_intlist": int, "build_doublelist": float, "build_boollist": bool}


def _refuse(what: str):
    raise ModelFileError(f"refused, a pickle with {what} is not allowed in a model")


@dataclass(eq=False, slots=True)
class Value:
    """item: what it is: a number, text (bytes), None, list, tuple, Name, Storage, Tensor, Object.

    depth: of what it holds; expanded: values in it, those counted twice that stand twice; used: it
    stands in another value and must not change any more.
    """

    item: object
    depth: int = 1
    expanded: int = 1
    used: bool = False


@dataclass(eq=False, slots=True)
class Pairs:
    """A dictionary: key, value, key, value, ..."""

    items: list[Value] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Name:
    text: str


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """An object whose state is to come."""

    type: str


@dataclass(frozen=True, slots=True)
class Object:
    """type: its class, of the model's code; "": what a function made."""

    state: Value | None = None
    type: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """key: of its record; kind: as "FloatStorage"; elements: that it has."""

    key: str
    kind: str
    elements: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """offset, size and stride in elements of its storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    elements: int
    quantized: bool


def read(data: bytes, record_size: Callable[[str], int | None]) -> Value:
    """The one value, an object or a tuple, of a pickle that LibTorch could have written.

    record_size(key): bytes of a storage's record; None where there is none. Raises ModelFileError
    for more than plain values, containers, objects of the archive's classes, and tensors that lie
    within storages as long as their records.
    """
    return _Pickle(data, record_size).run()


def tensors(module: Value) -> dict[str, Tensor]:
    """All tensors of a module's pickle by their dotted names."""
    by_name, to_do = {}, [("", module)]
    while to_do:
        name, value = to_do.pop()
        if isinstance(value.item, Tensor):
            by_name[name] = value.item
        elif isinstance(value.item, Object) and value.item.state:
            state = value.item.state.item
            if isinstance(state, Pairs):
                pairs = zip(state.items[::2], state.items[1::2], strict=True)
                for key, part in pairs:
                    if isinstance(key.item, bytes):
                        inner = key.item.decode("utf-8", "replace")
                        to_do.append((f"{name}.{inner}" if name else inner, part))
    return by_name


class _Pickle:
    def __init__(self, data: bytes, record_size: Callable[[str], int | None]):
        self._data, self._at, self._record_size = data, 2, record_size
        self._stack: list[Value] = []
        self._marks: list[int] = []
        self._memo: dict[int, Value] = {}
        self._values = 0

    def run(self) -> Value:
        if self._data[:2] != b"\x80\x02":
            _refuse("a protocol other than 2")
        while (opcode := self._take(1)) != b".":
            step = _OPCODES.get(opcode)
            if not step:
                _refuse(f"the opcode {opcode[0]}")
            step(self)
        if len(self._stack) != 1 or self._marks or self._at != len(self._data):
            _refuse("more, or less, than one value")
        if not isinstance(self._stack[0].item, Object | tuple):
            _refuse("another value than an object or a tuple")
        return self._stack[0]

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            _refuse("an end before its end")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, form: str) -> int:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def push(self, value: Value) -> None:
        self._values += 1
        if self._values > LIMITS["pickle_values"]:
            _refuse(f"more than {LIMITS['pickle_values']} values")
        self._stack.append(value)

    def _pop_many(self, n: int) -> list[Value]:
        """The last ones on the stack, none of which stands before the last mark."""
        if len(self._stack) < (self._marks[-1] if self._marks else 0) + n:
            _refuse("an opcode that finds too few values")
        last = self._stack[len(self._stack) - n :]
        del self._stack[len(self._stack) - n :]
        return last

    def _since_mark(self) -> list[Value]:
        if not self._marks:
            _refuse("an opcode that finds no mark")
        if len(self._stack) < self._marks[-1]:
            _refuse("an opcode that finds too few values")
        items = self._pop_many(len(self._stack) - self._marks[-1])
        self._marks.pop()
        return items

    def _pop(self):
        return self._pop_many(1)[0].item

    def _include(self, whole: Value, items: list[Value]) -> None:
        for value in items:
            if isinstance(value.item, Unbuilt):
                _refuse("an object without its state")
            value.used = True
            whole.depth = max(whole.depth, value.depth + 1)
            if whole.depth > LIMITS["pickle_depth"]:
                _refuse(f"values nested more than {LIMITS['pickle_depth']} levels deep")
            whole.expanded += value.expanded
            if whole.expanded > LIMITS["pickle_expanded"]:
                _refuse(
                    f"more than {LIMITS['pickle_expanded']} values, those that stand twice "
                    "counted twice"
                )

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def long1(self) -> None:
        if self.number("<B") != 8:
            _refuse("an integer of other than 8 bytes")
        self.push(Value(self.number("<q")))

    def text(self) -> None:
        self.push(Value(self._take(self.number("<I"))))

    def name(self) -> None:
        lines = []
        for _ in range(2):
            end = self._data.find(b"\n", self._at)
            if end < 0:
                _refuse("an end before its end")
            lines.append(self._take(end + 1 - self._at)[:-1].decode("latin-1"))
        self.push(Value(Name(".".join(lines))))

    def tuple_of(self, items: list[Value]) -> None:
        value = Value(tuple(items))
        self._include(value, items)
        self.push(value)

    def tuple_since_mark(self) -> None:
        self.tuple_of(self._since_mark())

    def short_tuple(self) -> None:
        self.tuple_of(self._pop_many(self._data[self._at - 1] - 0x84))

    def append(self) -> None:
        self._extend(self._pop_many(1), list)

    def appends(self) -> None:
        self._extend(self._since_mark(), list)

    def set_item(self) -> None:
        self._extend(self._pop_many(2), Pairs)

    def set_items(self) -> None:
        self._extend(self._since_mark(), Pairs)

    def _extend(self, items: list[Value], kind: type) -> None:
        last = self._pop_many(1)[0]
        if not isinstance(last.item, kind) or last.used or any(v is last for v in items):
            _refuse(f"an opcode that finds no {'list' if kind is list else 'dictionary'} to add to")
        if kind is Pairs:
            if len(items) % 2:
                _refuse("a key without its value")
            if not all(isinstance(v.item, bytes | int | float) for v in items[::2]):
                _refuse("a key that is neither a text nor a number")
        self._include(last, items)
        (last.item if kind is list else last.item.items).extend(items)
        self._stack.append(last)

    def put(self, form: str) -> None:
        key = self.number(form)
        if key > LIMITS["pickle_values"]:  # LibTorch's memo is as long as its largest key
            _refuse(f"a memo of more than {LIMITS['pickle_values']}")
        last = self._pop_many(1)[0]
        if isinstance(last.item, Unbuilt):
            _refuse("an object without its state")
        self._memo[key] = last
        self._stack.append(last)

    def get(self, form: str) -> None:
        key = self.number(form)
        if key not in self._memo:
            _refuse("what was not put into its memo")
        self._memo[key].used = True
        self._stack.append(self._memo[key])

    def new_object(self) -> None:
        arguments, type_name = self._pop(), self._pop()
        known = isinstance(type_name, Name) and type_name.text.startswith("__torch__")
        if arguments != () or not known:
            _refuse("an object of a class that is not the model's")
        self.push(Value(Unbuilt(type_name.text)))

    def build(self) -> None:
        state = self._pop_many(1)
        unbuilt = self._pop()
        if not isinstance(unbuilt, Unbuilt):
            _refuse("the state of something that is no object")
        value = Value(Object(state[0], unbuilt.type))
        self._include(value, state)
        self.push(value)

    def storage(self) -> None:
        saved = self._pop()
        items = [v.item for v in saved] if isinstance(saved, tuple) else []
        kinds = (bytes, Name, bytes, bytes, int)
        if len(items) != 5 or not all(map(_is, items, kinds)):
            _refuse("a storage that is none")
        mark, type_name, key, _, elements = items
        kind = type_name.text.removeprefix("torch.")
        if mark != b"storage" or type_name.text != f"torch.{kind}" or kind not in _STORAGES:
            _refuse("a storage of a type that models have not")
        text = key.decode("latin-1")
        size = self._record_size(text)
        if size is None or size % _STORAGES[kind] or elements != size // _STORAGES[kind]:
            has = "no" if size is None else size
            _refuse(f"a storage of {elements} elements whose record has {has} bytes")
        self.push(Value(Storage(text, kind, elements)))

    def reduce(self) -> None:
        argument_value = self._pop_many(1)[0]
        function, arguments = self._pop(), argument_value.item
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            _refuse("a call of what is no function")
        name = _FUNCTIONS.get(function.text)
        if not name:
            _refuse(f"a call of {ascii(function.text[:100])[1:-1]}")
        result = Value(Object())
        self._include(result, [argument_value])
        items = [v.item for v in arguments]
        if name in ("_rebuild_tensor_v2", "_rebuild_qtensor"):
            result.item = _tensor(items, name == "_rebuild_qtensor")
        elif name == "OrderedDict":
            if items:
                _refuse("an OrderedDict that is not empty")
            result.item = None
        elif name == "device":
            if len(items) != 1 or not _is(items[0], bytes):
                _refuse("a device without a name")
        elif name == "complex":
            if len(items) != 2 or not all(_is(item, float) for item in items):
                _refuse("a complex number that is none")
        elif name == "restore_type_tag":
            if len(items) != 2 or not _is(items[0], list | Pairs) or not _is(items[1], bytes):
                _refuse("a type of what is no container")
            _check_type(items[1].decode("latin-1"))
            result.item, result.used = items[0], True  # the list itself, not a copy
        else:
            if len(items) != 1 or not _is(items[0], list):
                _refuse("a type of what is no list")
            kind = _TYPED.get(name, Tensor)
            if not all(_is(v.item, kind) for v in items[0]):
                _refuse("a list whose items are not of its type")
            result.item, result.used = items[0], True
        self.push(result)


def _is(item: object, kind: type) -> bool:
    return isinstance(item, kind) and (kind is not int or not isinstance(item, bool))


def _integers(item: object, what: str) -> tuple[int, ...]:
    if not isinstance(item, tuple) or len(item) > LIMITS["tensor_dims"]:
        _refuse(f"{what} of more than {LIMITS['tensor_dims']} dimensions")
    if not all(_is(v.item, int) and v.item >= 0 for v in item):
        _refuse(f"{what} that is none")
    return tuple(v.item for v in item)


def _tensor(items: list, quantized: bool) -> Tensor:
    least = 7 if quantized else 6
    if not least <= len(items) <= least + 1 or not (_is(items[0], Storage) and _is(items[1], int)):
        _refuse("a tensor that is none")
    storage, offset = items[:2]
    size, stride = _integers(items[2], "a tensor's size"), _integers(items[3], "a tensor's stride")
    if len(size) != len(stride):
        _refuse("a tensor whose sizes and strides differ in number")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    inside = offset <= storage.elements if 0 in size else last < storage.elements
    if offset < 0 or not inside:
        _refuse("a tensor that reaches beyond its storage")
    elements = 1
    for n in size:
        elements *= n
        if elements > LIMITS["tensor_elements"]:  # of stride 0
            _refuse(f"a tensor of more than {LIMITS['tensor_elements']} elements")
    if quantized:
        _check_quantizer(items[4], size)
    return Tensor(storage, offset, size, stride, elements, quantized)


def _check_quantizer(item: object, size: tuple[int, ...]) -> None:
    items = [v.item for v in item] if isinstance(item, tuple) else []
    scheme = items[0].text if items and _is(items[0], Name) else ""
    if not scheme.startswith("torch.") or scheme.removeprefix("torch.") not in _SCHEMES:
        _refuse("a quantised tensor of an unknown scheme")
    if scheme == "torch.per_tensor_affine":
        if len(items) != 3 or not _is(items[1], float) or not _is(items[2], int):
            _refuse("a quantised tensor without scale")
        return
    if len(items) != 4 or not all(map(_is, items[1:], (Tensor, Tensor, int))):
        _refuse("a quantised tensor without scales")
    scales, zeros, axis = items[1:]
    if not (0 <= axis < len(size) and scales.elements == zeros.elements == size[axis]):
        _refuse("a quantised tensor with more, or fewer, scales than channels")


def _check_type(text: str) -> None:
    depth = deepest = 0
    for c in text:
        if c == "[":
            depth += 1
            deepest = max(deepest, depth)
        elif c == "]" and depth:
            depth -= 1
        elif not re.match("[A-Za-z0-9_., ]", c):
            _refuse("the name of a type that is none")
    if len(text) > LIMITS["type_bytes"] or deepest > LIMITS["type_depth"] or depth:
        _refuse(
            f"the name of a type longer than {LIMITS['type_bytes']} characters or nested more "
            f"than {LIMITS['type_depth']} levels deep"
        )


_OPCODES: dict[bytes, Callable[[_Pickle], None]] = {
    b"(": _Pickle.mark,
    b"N": lambda p: p.push(Value(None)),
    b"\x88": lambda p: p.push(Value(True)),
    b"\x89": lambda p: p.push(Value(False)),
    b"K": lambda p: p.push(Value(p.number("<B"))),
    b"M": lambda p: p.push(Value(p.number("<H"))),
    b"J": lambda p: p.push(Value(p.number("<i"))),
    b"\x8a": _Pickle.long1,
    b"G": lambda p: p.push(Value(p.number(">d"))),
    b"X": _Pickle.text,
    b")": lambda p: p.push(Value(())),
    b"]": lambda p: p.push(Value([])),
    b"}": lambda p: p.push(Value(Pairs())),
    b"t": _Pickle.tuple_since_mark,
    b"\x85": _Pickle.short_tuple,
    b"\x86": _Pickle.short_tuple,
    b"\x87": _Pickle.short_tuple,
    b"a": _Pickle.append,
    b"e": _Pickle.appends,
    b"s": _Pickle.set_item,
    b"u": _Pickle.set_items,
    b"c": _Pickle.name,
    b"R": _Pickle.reduce,
    b"\x81": _Pickle.new_object,
    b"b": _Pickle.build,
    b"Q": _Pickle.storage,
    b"q": lambda p: p.put("<B"),
    b"r": lambda p: p.put("<I"),
    b"h": lambda p: p.get("<B"),
    b"j": lambda p: p.get("<I"),
}
