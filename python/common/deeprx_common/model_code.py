# SPDX-License-Identifier: GPL-3.0-or-later
"""How deep TorchScript source is nested (in C++: gr-deeprx/lib/engines/code_check.h)."""

import re

from .model_errors import ModelFileError
from .model_rules import LIMITS

_DEEPER = {b"and", b"or", b"not", b"if", b"else", b"in", b"is", b"lambda"}
_CLOSING = {b"(": b")", b"[": b"]", b"{": b"}"}
_TOKEN = re.compile(
    rb"""(?P<newline>\n\ *)|(?P<space>\ +)|(?P<word>[A-Za-z0-9_]+)|(?P<open>[(\[{])
    |(?P<close>[)\]}])|(?P<string>'(?!'')(?:[^'\\\n]|\\.)*+'|"(?!"")(?:[^"\\\n]|\\.)*+")|(?P<reset>[,:])
    |(?P<operator>[-+*/%@&|^~<>=!.])""",
    re.VERBOSE | re.DOTALL,
)


def _refuse(what: str):
    raise ModelFileError(f"refused, {what} is not allowed in a model's code")


def check_code(source: bytes | memoryview) -> None:
    """Refuse source that LibTorch's compiler, which calls itself for every level of nesting, could
    not take: blocks, brackets, chains of operators. What it does is not looked at.
    """
    text = b"\n" + source  # so that every line begins with one
    closing, operators, depth, at = [b""], [0], 0, 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            _refuse(f"the character {text[at]}, or a string without an end or of several lines,")
        at, kind, word = token.end(), token.lastgroup, token[0]
        if kind == "newline":
            if len(word) - 1 > LIMITS["code_indent"]:
                _refuse(f"an indentation of more than {LIMITS['code_indent']}")
            if len(closing) == 1:
                depth, operators[0] = 0, 0
        elif word == b"elif" and kind == "word":
            _refuse("elif")
        elif kind == "close":
            if closing[-1] != word:
                _refuse("a bracket without its other")
            depth -= operators.pop()
            closing.pop()
        elif kind == "reset":
            depth, operators[-1] = depth - operators[-1], 0
        elif kind in ("open", "operator") or (kind == "word" and word in _DEEPER):
            depth, operators[-1] = depth + 1, operators[-1] + 1
            if depth > LIMITS["code_depth"]:
                _refuse(f"an expression nested more than {LIMITS['code_depth']} levels deep")
            if kind == "open":
                closing.append(_CLOSING[word])
                operators.append(0)
    if len(closing) != 1:
        _refuse("a bracket without its other")
