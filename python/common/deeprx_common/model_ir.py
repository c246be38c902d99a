# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenVINO IR of a model file: a graph of ordinary layers over its own weights, and no more
(gr-deeprx/lib/engines/ir_vetting.h says the same in C++).
"""

import re

from .model_errors import ModelFileError
from .model_rules import LIMITS, RULES

_LAYERS, _ELEMENTS = set(RULES["ir_layers"]), set(RULES["ir_elements"])
_DECLARATION = b'<?xml version="1.0"?>'
# Of XML this alone behind it, which parsers cannot see in two ways
_NAME = rb"([A-Za-z_][A-Za-z0-9_.-]*+)"
_ATTRIBUTE = _NAME + rb"""=("[ !#-%'-;=?-~]*+"|'[ -%(-;=?-~]*+')"""
_SPACE = rb"[ \t\n\r]"
_TOKEN = re.compile(
    rb"<(?P<opens>%b)(?P<attributes>(?:%b++%b){0,%d})%b*+(?P<closes>/?)>"
    % (_NAME, _SPACE, _ATTRIBUTE, LIMITS["xml_attributes"], _SPACE)
    + rb"|</(?P<ends>%b)%b*+>|(?P<text>[\t\n\r -%%'-;=?-~]++)" % (_NAME, _SPACE)
)
_ATTRIBUTES = re.compile(_ATTRIBUTE)
_OF_A_LAYER = {"layer", "data", "input", "output", "rt_info"}


def _refuse(what: str):
    raise ModelFileError(f"the OpenVINO IR is refused, {what} is not allowed in it")


def _refuse_xml():
    _refuse(f"XML other than plain tags of at most {LIMITS['xml_attributes']} attributes")


def _size(text: str) -> int:
    if not re.fullmatch("[0-9]{1,20}", text) or int(text) >= 2**64:
        _refuse(f"the offset or size {text[:80]!a}")
    return int(text)


def _attributes(text: bytes) -> dict[str, str]:
    pairs = _ATTRIBUTES.findall(text)
    attributes = {name.decode(): value[1:-1].decode() for name, value in pairs}
    if len(attributes) != len(pairs):
        _refuse_xml()
    return attributes


def _check_element(name: str, attributes: dict, around: list[tuple[str, dict]], weights: int):
    if len(around) >= LIMITS["xml_depth"]:
        _refuse(f"XML nested more than {LIMITS['xml_depth']} levels deep")
    if not around:
        if name != "net" or attributes.get("version") not in ("10", "11"):
            _refuse("another format than that of IR 10 and 11")
        return
    parent, of = around[-1]
    if parent == "data" or (parent == "layer" and name not in _OF_A_LAYER):
        _refuse(f"a {name[:80]} within a {parent}")
    if name == "layer":
        layer, opset = attributes.get("type", ""), attributes.get("version", "")
        if not opset.startswith("opset") or layer not in _LAYERS:
            _refuse(f"the layer {layer[:80]} of {opset[:80]}")
        if [tag for tag, _ in around] != ["net", "layers"]:
            _refuse("a layer within another part than the net's layers")
    elif name == "data" and of.get("type") == "Const":
        offset, size = _size(attributes.get("offset", "")), _size(attributes.get("size", ""))
        if offset + size > weights:
            _refuse("a constant outside its weights")
        if attributes.get("element_type") not in _ELEMENTS:
            _refuse("a constant of an unknown type")


def check_ir(xml: bytes | memoryview, weights: int) -> None:
    """Refuse an IR's .xml, whose .bin has so many bytes. Raises ModelFileError."""
    if len(xml) > LIMITS["xml_bytes"]:
        _refuse(f"an XML of {len(xml)} bytes")
    at = len(_DECLARATION)
    if xml[:at] != _DECLARATION:
        _refuse("what is no XML")
    around: list[tuple[str, dict]] = []
    roots = 0
    while at < len(xml):
        token = _TOKEN.match(xml, at)
        if not token:
            _refuse_xml()
        at = token.end()
        if token["opens"]:
            name, attributes = token["opens"].decode(), _attributes(token["attributes"])
            roots += not around
            _check_element(name, attributes, around, weights)
            around.append((name, attributes))
        if token["closes"] or token["ends"]:
            name = (token["ends"] or token["opens"]).decode()
            if not around or around.pop()[0] != name:
                _refuse_xml()
        if token["text"] and not around and token["text"].strip():
            _refuse_xml()
    if around or roots != 1:
        _refuse_xml()
