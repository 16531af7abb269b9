"""How a result grows with one operand: by a power of what that is multiplied by.

A rule is given the node and the place of an operand, and gives the power p such that the result is
k^p times as large where that operand is k times as large, for a positive k, and all else the same;
None where there is none. Where factors of terms are multiplied, the trait
``positively_homogeneous`` says it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from redir.ir import Node
from redir.ir.builtin import tensor_of

Rule = Callable[[Node, int], "float | None"]


def root(node: Node, place: int) -> float | None:
    """A square root."""
    del node, place
    return 0.5


def inverse(node: Node, place: int) -> float | None:
    """What 1 is divided by."""
    del node, place
    return -1.0


def quotient(node: Node, place: int) -> float | None:
    """What is divided, and what it is divided by."""
    old = node.op.version < 7  # noqa: PLR2004 - operands did not align at the right
    whole = node.outputs[0].type.dtype.kind != "f"
    return None if old or whole else (1.0, -1.0)[place]


def power(node: Node, place: int) -> float | None:
    """A number, raised to a constant one."""
    exponent = tensor_of(node.inputs[1])
    floats = all(v.type.dtype.kind == "f" for v in (node.inputs[0], node.outputs[0]))
    if place or exponent is None or exponent.array.size != 1 or not floats:
        return None
    return float(exponent.array.reshape(-1)[0])


def cast(node: Node, place: int) -> float | None:
    """A number, rounded to another type."""
    floats = all(v.type.dtype.kind == "f" for v in (node.inputs[place], node.outputs[0]))
    return 1.0 if floats else None


RULES: Mapping[str, Rule] = {
    "Cast": cast,
    "Div": quotient,
    "Pow": power,
    "Reciprocal": inverse,
    "Sqrt": root,
}
