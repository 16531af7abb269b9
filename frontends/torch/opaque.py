"""PyTorch operators that no rule lowers: how a graph carries them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from redir.frontends.torch.call import ABSENT, INT64, Call, Sym
from redir.ir import Attr, Value
from redir.ir.tensor import dtype_name


def arguments(c: Call, given: Mapping[str, Any]) -> tuple[list[Value], dict[str, Attr]]:
    """Operands and attributes of an operator; those that are left out have their defaults.

    ``operands`` says which argument each operand is, ``name[]`` that it is a part of a list. An
    element type is written as ``torch.float32``, and None is an operand that is absent.
    """
    operands: list[Value] = []
    names: list[str] = []
    attrs: dict[str, Attr] = {}
    for name, arg in given.items():
        parts = _parts(c, arg)
        if parts is None:
            attrs[name] = _attr(arg)
            continue
        operands += parts
        names += [f"{name}[]" if isinstance(arg, list) else name] * len(parts)
    return operands, {**attrs, "operands": tuple(names)}


def _parts(c: Call, arg: Any) -> list[Value] | None:
    """The values of an argument that is, or holds, what the inputs decide."""
    many = arg if isinstance(arg, list) else [arg]
    if not any(isinstance(a, Value | Sym | None) for a in many):
        return None
    return [_part(c, a) for a in many]


def _part(c: Call, arg: Any) -> Value:
    if arg is None:
        return ABSENT
    return c.operand(arg, arg.type.dtype if isinstance(arg, Value) else INT64)


def _attr(arg: Any) -> Attr:
    if isinstance(arg, list):
        return tuple(_attr(a) for a in arg)
    held: Attr = f"torch.{dtype_name(arg)}" if isinstance(arg, np.dtype) else arg
    return held
