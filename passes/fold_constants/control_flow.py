"""What is in a body of control flow, where one knows which way it goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Visit, grafted
from redir.ops import control, is_absent, tensor_of


def inlined(node: Node, inputs: Sequence[Value], visit: Visit) -> Sequence[Value] | None:
    """What an If or a Loop gives, its nodes visited one by one; None where that is not known."""
    if node.op == ops.If:
        condition = tensor_of(inputs[0])
        if condition is None or condition.array.size != 1:
            return None
        name = "then_branch" if condition.array.item() else "else_branch"
        return _called(node, inputs, name, [], visit)
    return _looped(node, inputs, visit) if node.op == ops.Loop else None


def _looped(node: Node, inputs: Sequence[Value], visit: Visit) -> Sequence[Value] | None:
    """What a Loop gives that surely runs once, or never, and stacks nothing.

    To write its body more often would make the file grow.
    """
    trips, going, *carried = inputs[: len(inputs) - len(control.captures(node))]
    times = _times(trips, going)
    if len(carried) != node.arity or times is None or times > 1:
        return None
    if times < 1:
        return carried
    count, state, *_ = (value.type.static or () for value in node.attrs["body"].inputs.values())
    first = ops.constant(np.zeros(count, np.int64)), ops.constant(np.ones(state, bool))
    return _called(node, inputs, "body", [*first, *carried], visit)[1:]


def _times(trips: Value, going: Value) -> int | None:
    """How often a Loop runs, if one knows that it does not stop by itself before."""
    most, begins = tensor_of(trips), tensor_of(going)
    if begins is not None and not begins.array.item():
        return 0
    if most is None:
        return None
    times = int(most.array.item())
    return times if times < 1 or is_absent(going) or begins is not None else None


def _called(
    node: Node, inputs: Sequence[Value], name: str, own: Sequence[Value], visit: Visit
) -> list[Value]:
    """What a body gives on operands of its ``own`` and on what it captures."""
    body: Graph = node.attrs[name]
    held = control.captures(node)
    captured = dict(zip(held, inputs[len(inputs) - len(held) :], strict=True))
    mine = iter(own)
    given = {v: captured[n] if n in captured else next(mine) for n, v in body.inputs.items()}
    return grafted(body, given, visit)
