"""Views: what is part of which tensor, and what an operator that writes to a part changes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from redir.frontends.torch.aten import indexing
from redir.frontends.torch.call import Call, NotLowered, whole
from redir.ir import Value

_PERHAPS = frozenset("reshape flatten ravel contiguous to dropout type_as reshape_as".split())
_SAME_ORDER = _PERHAPS | frozenset(
    "view view_as unflatten unsqueeze squeeze detach alias lift_fresh".split()
)


def viewed(node: Any) -> Any:
    """The node whose memory a node's result shares, if it shares one's."""
    if node.op != "call_function" or not node.args:
        return None
    if node.target is operator.getitem:
        return written_inside(node) or viewed(node.args[0])
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return None
    if name_of(node) in _PERHAPS:
        return node.args[0] if _shares(node) else None
    shares = schema.is_mutable or any(r.alias_info is not None for r in schema.returns)
    return node.args[0] if shares else None


INLINED = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Contexts around a graph of their own, and where among their arguments that is."""


def written_inside(node: Any) -> Any:
    """The node that a part of what a context gives is another name of, if it wrote to one."""
    place = INLINED.get(str(getattr(node.args[0], "target", "")))
    if place is None:
        return None
    context = node.args[0]
    inner = getattr(context.graph.owning_module, context.args[place].target).graph
    (output,) = (n for n in inner.nodes if n.op == "output")
    found = output.args[0][node.args[1]]
    while found.op == "call_function" and is_write(found):
        found = found.args[0]
    places = [n for n in inner.nodes if n.op == "placeholder"]
    return context.args[place + 1 + places.index(found)] if found in places else None


def is_write(node: Any) -> bool:
    """Whether a node changes one of its operands."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _shares(node: Any) -> bool:
    """Whether the operator gives a view on operands like these; torch says it by doing it."""
    x = node.args[0].meta["val"]
    args = [_stated(a) for a in node.args]
    kwargs = {k: _stated(a) for k, a in node.kwargs.items()}
    with x.fake_mode:
        y = node.target(*args, **kwargs)
    return bool(y.untyped_storage()._cdata == x.untyped_storage()._cdata)


def _stated(arg: Any) -> Any:
    if isinstance(arg, tuple | list):
        return [_stated(a) for a in arg]
    return arg.meta["val"] if hasattr(arg, "meta") else arg


def put(c: Call, view: Any, base: Value, value: Value) -> Value:
    """``base`` after ``value`` was written to what ``view`` sees of it.

    Raises:
        Unsupported: that kind of view is not followed.
    """
    if view.target is operator.getitem:
        return value if written_inside(view) else _put_part(c, view, base, value)
    same_order = view.target._schema.is_mutable or name_of(view) in _SAME_ORDER
    try:
        if same_order:
            return c.reshape(value, c.shape(base))
        if name_of(view) in _PUT:
            return _PUT[name_of(view)](c, view, base, value)
    except NotLowered:
        pass
    raise c.refusal(f"redir does not follow what it writes through {view.target}")


def _put_slice(c: Call, view: Any, base: Value, value: Value) -> Value:
    cut: list[Any] = [None if given is None else whole(given) for given in view.args[1:]]
    return indexing.slice_scatter(c, base, value, *cut)


def _put_select(c: Call, view: Any, base: Value, value: Value) -> Value:
    return indexing.select_scatter(c, base, value, *view.args[1:])


def _put_permuted(c: Call, view: Any, base: Value, value: Value) -> Value:
    del base
    return c.transpose(
        value, [int(i) for i in np.argsort([a % len(view.args[1]) for a in view.args[1]])]
    )


def _put_transposed(c: Call, view: Any, base: Value, value: Value) -> Value:
    perm = list(range(c.rank(base)))
    a, b = view.args[1:] or (-1, -2)
    perm[a], perm[b] = perm[b], perm[a]
    return c.transpose(value, perm)


def _put_part(c: Call, view: Any, base: Value, value: Value) -> Value:
    """One of the parts of a split or an unbind."""
    parts, place = view.args
    given = (*parts.args[1:], *parts.kwargs.values())
    if name_of(parts) == "unbind":
        axis = (given[0] if given else 0) % c.rank(base)
        return indexing.written(c, base, c.unsqueeze(value, axis), axis, place, place + 1)
    axis = (given[1] if len(given) > 1 else 0) % c.rank(base)
    sizes = [whole(v.shape[axis]) for v in parts.meta["val"]]
    start = sum(sizes[:place])
    return indexing.written(c, base, value, axis, start, start + sizes[place])


def name_of(node: Any) -> str:
    """The plain name of a node's operator."""
    return str(node.target._schema.name).rpartition("::")[2]


_PUT: dict[str, Callable[[Call, Any, Value, Value], Value]] = {
    "slice": _put_slice,
    "select": _put_select,
    "permute": _put_permuted,
    "transpose": _put_transposed,
    "swapaxes": _put_transposed,
    "swapdims": _put_transposed,
    "t": _put_transposed,
    "mT": _put_transposed,
}
