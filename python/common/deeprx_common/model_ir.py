# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenVINO IR of a model file: a graph of ordinary layers over its own weights, and no more
(gr-deeprx/lib/engines/ir_vetting.h says the same in C++).
"""

import re
from xml.parsers import expat

from .model_errors import ModelFileError
from .model_rules import LIMITS, RULES

_LAYERS, _ELEMENTS = set(RULES["ir_layers"]), set(RULES["ir_elements"])
_DECLARATION = b'<?xml version="1.0"?>'
# Of XML this alone behind it, which parsers cannot see in two ways; expat sees how tags nest
_NAME = rb"[A-Za-z_][A-Za-z0-9_.-]*+"
_VALUE = rb"""(?:"[ !#-%'-;=?-~]*+"|'[ -%(-;=?-~]*+')"""
_TAG = rb"<NAME(?:[ \t\n\r]++NAME=VALUE)*+[ \t\n\r]*+/?+>|</NAME[ \t\n\r]*+>"
_PLAIN_XML = re.compile(
    rb"(?:%b|[\t\n\r -%%'-;=?-~]++)*+" % _TAG.replace(b"NAME", _NAME).replace(b"VALUE", _VALUE)
)
_OF_A_LAYER = {"layer", "data", "input", "output", "rt_info"}


def _refuse(what: str):
    raise ModelFileError(f"the OpenVINO IR is refused, {what} is not allowed in it")


def _size(text: str) -> int:
    if not re.fullmatch("[0-9]{1,20}", text) or int(text) >= 2**64:
        _refuse(f"the offset or size {text[:80]!a}")
    return int(text)


class _Vetting:
    def __init__(self, weights: int):
        self._weights = weights
        self._open: list[tuple[str, dict]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        parent, of = self._open[-1] if self._open else ("", {})
        self._open.append((name, attributes))
        path = "/".join(tag for tag, _ in self._open)
        if len(self._open) > LIMITS["xml_depth"]:
            _refuse(f"XML nested more than {LIMITS['xml_depth']} levels deep")
        if len(self._open) == 1 and (
            name != "net" or attributes.get("version") not in ("10", "11")
        ):
            _refuse("another format than that of IR 10 and 11")
        if parent == "data" or (parent == "layer" and name not in _OF_A_LAYER):
            _refuse(f"a {ascii(name[:80])[1:-1]} within a {parent}")
        get = lambda of, key: of.get(key, "")  # noqa: E731
        if name == "layer":
            layer, opset = get(attributes, "type"), get(attributes, "version")
            if not opset.startswith("opset") or layer not in _LAYERS:
                _refuse(f"the layer {ascii(layer[:80])[1:-1]} of {ascii(opset[:80])[1:-1]}")
            if path != "net/layers/layer":
                _refuse("a layer within another part than the net's layers")
        elif name == "data" and get(of, "type") == "Const":
            offset, size = _size(get(attributes, "offset")), _size(get(attributes, "size"))
            if offset + size > self._weights:
                _refuse("a constant outside its weights")
            if get(attributes, "element_type") not in _ELEMENTS:
                _refuse("a constant of an unknown type")

    def end(self, name: str) -> None:
        self._open.pop()


def check_ir(xml: bytes | memoryview, weights: int) -> None:
    """Refuse an IR's .xml, whose .bin has so many bytes. Raises ModelFileError."""
    if len(xml) > LIMITS["xml_bytes"]:
        _refuse(f"an XML of {len(xml)} bytes")
    xml = bytes(xml)
    if not xml.startswith(_DECLARATION):
        _refuse("what is no XML")
    if not _PLAIN_XML.fullmatch(xml, len(_DECLARATION)):
        _refuse("XML other than plain tags")
    vetting = _Vetting(weights)
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = vetting.start, vetting.end
    try:
        parser.Parse(xml, True)
    except expat.ExpatError:
        _refuse("XML other than plain tags")
