"""Integers of constants that stand for zero: what silences a quantised weight."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from redir.ir import Graph, Value
from redir.ir.tensor import Array
from redir.ops import tensor_of
from redir.ops.quantised import zero_point


def resting(graph: Graph) -> Mapping[Value, Array]:
    """For each constant of which another integer than 0 stands for zero, which, for each number.

    Only where all that read it agree.
    """
    found: dict[Value, Array] = {}
    for value, readers in graph.readers.items():
        tensor, zeros = tensor_of(value), [zero_point(node, value) for node in readers]
        known = [zero for zero in zeros if zero is not None]
        if tensor is None or len(known) < graph.uses[value] or not any(map(np.any, known)):
            continue
        whole = [np.broadcast_to(zero, tensor.array.shape) for zero in known]
        if all(np.array_equal(zero, whole[0]) for zero in whole):
            found[value] = whole[0]
    return found
