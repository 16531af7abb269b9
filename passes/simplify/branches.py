"""Layers that read one value and are added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from redir import ops
from redir.ir import Node, Value
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.ops.kernels import Window
from redir.passes.simplify.affine import affine
from redir.passes.simplify.rules import Around, Found, rule
from redir.passes.simplify.weights import freed, made, obstacle, stays_inside, trained_alike


@rule("branches that are added", "Add")
def branches(node: Node, around: Around) -> Found:
    """One layer with the sum of their weights, the smaller kernel within the larger one."""
    why: str | None = None
    for large, small, rest in _pairs(node, around):
        named = node if rest is None else replace(node, source=None)
        found = _joined(named, large, small, around)
        if isinstance(found, Value):
            return found if rest is None else node.on((found, rest)).outputs[0]
        why = why or found
    return why


def _pairs(node: Node, around: Around) -> Iterator[tuple[Value, Value, Value | None]]:
    """Two terms of a sum, and what else is added to them."""
    left, right = node.inputs
    yield left, right, None
    yield right, left, None
    for inner, other in ((left, right), (right, left)):
        if inner.node is not None and inner.node.op == node.op and around.alone(inner):
            for one, rest in (inner.node.inputs, inner.node.inputs[::-1]):
                yield one, other, rest
                yield other, one, rest


def _joined(node: Node, large: Value, small: Value, around: Around) -> Found:
    """The layer that gives ``large`` with what gives ``small`` in its weights."""
    layer = None if large.node is None else linear(large.node)
    if not isinstance(layer, Linear) or (other := _branch(small, layer)) is None:
        return None
    branch, held = other
    read = not (small is layer.x or around.alone(small)) or not stays_inside(branch, around)
    if read or not around.alone(large):
        return "a branch is read by others too"
    if (why := obstacle(layer, around)) is not None:
        return why
    if branch.bias is None or not branch.place == branch.alpha == branch.beta == 1:
        return "a branch has factors, or a bias that is not constant"
    offsets = _offsets(layer, branch)
    if offsets is None:
        return "they slide in other ways, or one kernel does not lie within the other"
    assert layer.bias is not None
    weight = layer.weight + _within(branch, layer, offsets)
    bias = layer.bias.astype(np.float64) + branch.bias
    return made(layer, node, weight, bias, freed(around, held))


def _branch(small: Value, layer: Linear) -> tuple[Linear, tuple[Value, ...]] | None:
    """What makes a value of that which a layer reads, as a layer; and the constants it holds."""
    other = None if small.node is None else linear(small.node)
    if isinstance(other, Linear):
        held = (other.held,) if other.added is None else (other.held, other.added)
        return (other, held) if other.x is layer.x and trained_alike(other, layer) else None
    found = None if small is layer.x or small.node is None else affine(small.node)
    if layer.node.op != ops.Conv or not (small is layer.x or (found and found.x is layer.x)):
        return None
    ones, zeros = np.ones(layer.channels), np.zeros(layer.channels)
    numbers = found.along(layer.x_axis, layer.channels) if found else (ones, zeros)
    if numbers is None:
        return None
    weight, bias = numbers[0].reshape(-1, *[1] * (1 + len(layer.kernel))), numbers[1]
    inputs = (layer.x, *(ops.constant(a.astype(layer.array.dtype)) for a in (weight, bias)))
    alone = linear(Node(layer.node.op, inputs, {"group": layer.channels}))
    return (alone, found.held if found else ()) if isinstance(alone, Linear) else None


def _offsets(large: Linear, small: Linear) -> list[int] | None:
    """Where one kernel starts within the other, along each axis, if they slide alike."""
    axes = [(one.x_axis, one.y_axis, one.outputs, one.array.dtype) for one in (large, small)]
    if axes[0] != axes[1] or small.groups % large.groups:
        return None
    attrs = [{k: a for k, a in one.node.attrs.items() if k != "group"} for one in (large, small)]
    same = large.node.op == small.node.op and attrs[0] == attrs[1]
    if large.kernel == small.kernel and (same or not large.kernel):
        return [0] * len(large.kernel)
    one, other = _window(large), _window(small)
    if one is None or other is None or list(one.strides) != list(other.strides):
        return None
    return _place(large, small, one, other)


def _window(layer: Linear) -> Window | None:
    """How a Conv slides; None where its pads follow a size that is open."""
    rank, sizes = len(layer.kernel), (layer.x.type.shape or ())[2:]
    window, known = Window.of(layer.node, rank), [s for s in sizes if isinstance(s, int)]
    follows = str(layer.node.attrs.get("auto_pad", "")).startswith("SAME") and len(known) < rank
    if layer.node.op != ops.Conv or (follows and any(s != 1 for s in window.strides)):
        return None
    return window.around(layer.node, known if len(known) == rank else (1,) * rank, layer.kernel)


def _place(large: Linear, small: Linear, one: Window, other: Window) -> list[int] | None:
    """Where one kernel starts within the other, if as many places come out."""
    kernels, rank = (np.array(large.kernel), np.array(small.kernel)), len(large.kernel)
    (before, behind), (own, rest) = (np.split(np.array(w.pads), 2) for w in (one, other))
    start, uneven = np.divmod(before - own, np.array(one.dilations))
    spread = (kernels[1] > 1) & (np.array(one.dilations) != np.array(other.dilations))
    if np.any(uneven | spread | (start < 0) | (start + kernels[1] > kernels[0])):
        return None
    over = before + behind - one.spans(large.kernel) - (own + rest - other.spans(small.kernel))
    sizes = [(v.type.shape or (None,) * rank)[-rank:] for v in (large.y, small.y)]
    alike = [isinstance(a, int) and a == b for a, b in zip(*sizes, strict=True)]
    return None if np.any((over != 0) & ~np.array(alike)) else start.tolist()


def _within(small: Linear, large: Linear, start: Sequence[int]) -> Array:
    """The weights of one layer as they are in the other's: in its groups and its kernel."""
    groups, rows, columns, _ = small.weight.shape
    many, each = large.groups, groups // large.groups
    apart = np.zeros((many, each, rows, each, columns, *large.kernel))
    taps = tuple(slice(p, p + k) for p, k in zip(start, small.kernel, strict=True))
    own = small.weight.reshape(many, each, rows, columns, *small.kernel)
    for place in range(each):
        where: tuple[Any, ...] = (slice(None), place, slice(None), place, slice(None), *taps)
        apart[where] = own[:, place]
    return apart.reshape(large.weight.shape)


RULES = (branches,)
