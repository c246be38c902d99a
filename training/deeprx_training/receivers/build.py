# SPDX-License-Identifier: GPL-3.0-or-later
"""Nets from what a recipe, a checkpoint or a model file says of them."""

import importlib
import inspect
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

import torch
from pydantic import ConfigDict, create_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deeprx_common.printable import printable

from ..values import Flag, check, number, several, whole
from .contract import LayerOf, check_taken, knows_layers
from .nets import DeepRx, HybridRx, PaperInputRx
from .pusch import PuschRx
from .realtime import RealtimeRx
from .weights import put

if TYPE_CHECKING:
    from ..data.conditions import Conditions

NETS = {net.__name__: net for net in (DeepRx, PaperInputRx, HybridRx, RealtimeRx, PuschRx)}

_dilation = tuple[whole(1, 64), whole(1, 64)]
_ARGUMENTS = {
    "n_rx": whole(1, 4),
    "width": number(0, 8, above=True),
    "channels": whole(1, 2048),
    "interference_channels": whole(1, 2048),
    "reliability_channels": whole(1, 2048),
    "pilot_channels": whole(1, 2048),
    "blocks": whole(0, 64),
    "pilot_blocks": whole(0, 64),
    "rounds": whole(0, 16),
    "learned": whole(1, 64),
    "basis": whole(1, 12),
    "filters": whole(1, 2048),
    "dilation": _dilation,
    "dilations": several(_dilation),
    "separable": Flag,
    "fold": whole(1, 12),
    "innovation": Flag,
    "refine": Flag,
    "larger_in_time": Flag,
}


@cache
def _arguments(name: str) -> type:
    keys = inspect.signature(NETS[name]).parameters
    return create_model(
        name,
        __config__=ConfigDict(extra="forbid"),
        **{key: (_ARGUMENTS[key], p.default) for key, p in keys.items()},
    )


_classes: dict[str, type[nn.Module]] = {}  # "module:Class": that import_class() has found


def build(spec: dict) -> nn.Module:
    """A receiver from {"net": a name of NETS or "module:Class", **its arguments}: a class that
    import_class() has found, as a file that names one is not asked what Python imports. ValueError
    names what is unknown or impossible.
    """
    arguments = dict(spec) if isinstance(spec, dict) else {}
    name = arguments.pop("net", None)
    if isinstance(name, str) and name in _classes:
        try:
            return _classes[name](**arguments)
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{name}: {error}") from None
    if is_class(name):
        raise ForeignClass(f"is of {name:.80}, a class that no recipe here names")
    if not isinstance(name, str) or name not in NETS:
        raise ValueError(f"expected one of {', '.join(NETS)} or module:Class, found {name!r:.80}")
    try:
        checked = check(_arguments(name), arguments)
    except ValueError as error:
        raise ValueError(f"{name}: {printable(error, 500)}") from None
    return NETS[name](**{key: getattr(checked, key) for key in arguments})


class _Unallocated(TorchFunctionMode):
    """Weights, which torch.empty() makes, have a shape and take no memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        where = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **(kwargs or {}) | where)


def build_with(spec: dict, weights: Mapping[str, Tensor]) -> nn.Module:
    """build(), with the weights of a state_dict() in it. One of NETS takes memory only after they
    were found to fit. Raises RuntimeError where they do not.
    """
    if isinstance(spec, dict) and spec.get("net") in list(NETS):
        with _Unallocated():
            put(weights, build(spec), assign=True)
    net = build(spec)
    put(weights, net)
    return net


def check_takes(net: nn.Module, conditions: "Conditions") -> None:
    """ValueError where slots are drawn that a net does not take, as far as that is known: one of
    NETS, or one from elsewhere, which may take all slots of one user.
    """
    if knows_layers(net) or isinstance(net, LayerOf):
        return
    if type(net) in NETS.values():
        check_taken(conditions)
    elif 2 in conditions.users:
        raise ValueError("users: expected 1, got 2")


def described(spec: dict) -> dict:
    """A spec of NETS with every argument, those that it leaves to their defaults too, as JSON has
    them.
    """
    keys = inspect.signature(NETS[spec["net"]]).parameters
    return json.loads(json.dumps({k: p.default for k, p in keys.items()} | spec))


class ForeignClass(ValueError):
    """A file names a class that is not known: Python would import what a stranger has chosen."""


def is_class(name) -> bool:
    return isinstance(name, str) and ":" in name


def import_class(name: str, folders: Iterable[str | os.PathLike] = ()) -> None:
    """What build() makes nets of from now on, by a name "module:Class" that the user has given. The
    module is sought in folders, the working directory and on Python's path. ValueError says in one
    line what is wrong.
    """
    module, _, kind = name.partition(":")
    path = list(sys.path)
    sys.path[:0] = [os.fspath(f) for f in folders] + [os.getcwd()]
    try:
        net = getattr(importlib.import_module(module), kind, None)
    except (ImportError, TypeError, ValueError) as error:  # .module; no name at all
        raise ValueError(
            f"{name:.80}: {error}; modules are sought beside the recipe, in the working directory "
            "and on PYTHONPATH"
        ) from None
    finally:
        sys.path[:] = path
    if not (inspect.isclass(net) and issubclass(net, nn.Module)):
        raise ValueError(f"{name}: expected a torch.nn.Module of that name in {module}.py")
    _classes[name] = net
