"""PyTorch operators that no rule lowers: how a graph carries them, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from redir.frontends.lowering import ABSENT, INT64, Call, Sym
from redir.ir import Attr, Node, Value
from redir.tensor import dtype_name

DOMAIN = "aten"  # of torch's own operators; a library's are in torch.LIBRARY


def domain(space: str) -> str:
    """The domain of the operators of one of torch's namespaces."""
    return DOMAIN if space == "aten" else f"torch.{space}"


def arguments(c: Call, given: Mapping[str, Any]) -> tuple[list[Value], dict[str, Attr]]:
    """Operands and attributes of an operator; those that are left out have their defaults.

    ``operands`` says which argument each operand is, ``name[]`` that it is a part of a list. An
    element type is written as ``torch.float32``.
    """
    operands: list[Value] = []
    names: list[str] = []
    attrs: dict[str, Attr] = {}
    for name, arg in given.items():
        parts = _parts(c, arg)
        if parts is None:
            attr = _attr(arg)
            attrs |= {} if attr is None else {name: attr}
            continue
        operands += parts
        names += [f"{name}[]" if isinstance(arg, list) else name] * len(parts)
    return operands, {**attrs, "operands": tuple(names)}


def _parts(c: Call, arg: Any) -> list[Value] | None:
    """The values of an argument that is, or holds, what the inputs decide."""
    many = arg if isinstance(arg, list) else [arg]
    if not any(isinstance(a, Value | Sym) for a in many):
        return None
    return [_part(c, a) for a in many]


def _part(c: Call, arg: Any) -> Value:
    if arg is None:
        return ABSENT
    return c.operand(arg, arg.type.dtype if isinstance(arg, Value) else INT64)


def _attr(arg: Any) -> Attr | None:
    if isinstance(arg, list):
        held = tuple(_attr(a) for a in arg)
        return None if None in held else held  # type: ignore[return-value]
    if isinstance(arg, np.dtype):
        return f"torch.{dtype_name(arg)}"
    return arg if isinstance(arg, bool | int | float | str) else None


def runner(torch: Any, target: Any) -> Callable[..., Sequence[Any]]:
    """What runs the operator ``target`` by torch itself, on arrays."""

    def run(node: Node, *arrays: Any) -> Sequence[Any]:
        tensors = [None if a is None else torch.from_numpy(np.array(a)) for a in arrays]
        given: dict[str, Any] = {k: a for k, a in node.attrs.items() if k != "operands"}
        for name, tensor in zip(node.attrs["operands"], tensors, strict=True):
            if name.endswith("[]"):
                given.setdefault(name[:-2], []).append(tensor)
            else:
                given[name] = tensor
        found = target(**{k: _restored(torch, target, k, a) for k, a in given.items()})
        many = found if isinstance(found, tuple | list) else [found]
        return [np.asarray(t) for t in many]

    return run


def _restored(torch: Any, target: Any, name: str, held: Any) -> Any:
    """An argument as the operator takes it."""
    (kind,) = (str(a.type) for a in target._schema.arguments if a.name == name)
    if isinstance(held, str) and held.startswith("torch."):
        return getattr(torch, held.removeprefix("torch."))
    if "Tensor" in kind:
        return held
    many = held if isinstance(held, list) else [held]
    plain = [a.item() if hasattr(a, "item") else a for a in many]
    return plain if isinstance(held, list) else plain[0]
