"""Streams of channels that norms read: what a norm is, what is tied to it, and a mean of zero."""

from __future__ import annotations

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Link, Node, Port, Value, width
from redir.ir.tensor import Array, epsilon
from redir.ops import is_absent, tensor_of


def is_norm(node: Node, name: str) -> bool:
    """Whether a node norms along the last axis, with constant numbers for each channel."""
    x = node.inputs[0] if node.inputs else None
    if node.op.standard != name or x is None or not x.rank or node.arity > 1:
        return False
    along = node.attrs.get("axis", -1) in {-1, x.rank - 1}
    held = [tensor_of(v) for v in node.inputs[1:] if not is_absent(v)]
    shape = (x.type.size(x.rank - 1),)
    return along and None not in shape and all(t and t.array.shape == shape for t in held)


def tied(coupling: Coupling, node: Node, port: Port) -> dict[Value, int]:
    """The axes that a node ties to a port channel by channel, in their order, by their values."""
    found = {}
    for owner, link in coupling.links_of(port):
        end = link.a if link.b == port else link.b
        if owner is node and link.kind == "same" and is_straight(link):
            found[end[0]] = end[1]
    return found


def centred(array: Array, axis: int) -> Array:
    """Numbers less their mean along an axis, in float64 and rounded once.

    Those stay that add up to 0 but for their own rounding, and so do their zeros.
    """
    numbers = array.astype(np.float64)
    total = numbers.sum(axis, keepdims=True)
    rounding = epsilon(array.dtype) * np.abs(numbers).sum(axis, keepdims=True)
    mean = np.where(np.abs(total) <= rounding, 0.0, total / array.shape[axis])
    less: Array = (numbers - mean).astype(array.dtype)
    return less


def is_straight(link: Link) -> bool:
    """Whether a link ties each channel to that at its own place."""
    return width(link.a) == width(link.b) and np.array_equal(link.index, np.arange(width(link.a)))
