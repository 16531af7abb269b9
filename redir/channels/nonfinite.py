"""Which values may be infinite or NaN, as far as constants tell: a zero does not silence those."""

from __future__ import annotations

import numpy as np

from redir import ops
from redir.errors import RedirError
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import compute
from redir.ops import tensor_of

_SMALL = 2**16  # numbers of constants that are computed with


def nonfinite(graph: Graph) -> frozenset[Value]:
    """The floats that hold an infinity or NaN, are divided by zero, or are computed from such.

    A mask of -inf ends in an operator of bounded results, such as a Softmax.
    """
    found = set[Value]()
    for node in graph.nodes:
        if _starts(node) or (not node.op.bounded and not found.isdisjoint(node.inputs)):
            found.update(v for v in node.outputs if v.type.dtype.kind == "f")
    return frozenset(found)


def _starts(node: Node) -> bool:
    tensor = tensor_of(node.outputs[0]) if node.outputs else None
    if tensor is not None:
        return tensor.type.dtype.kind == "f" and not np.isfinite(tensor.peak)
    given = [tensor_of(v) for v in node.inputs]
    if node.op == ops.Div and given[1] is not None and not np.all(given[1].array):
        return True
    small = [t for t in given if t is not None and t.size <= _SMALL]
    if not small or len(small) < len(given) or not node.repeatable or node.bodies:
        return False
    try:
        results = [np.asarray(a) for a in compute(node, [t.array for t in small])]
    except RedirError:
        return False
    return any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in results)
