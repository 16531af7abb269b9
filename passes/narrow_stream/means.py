"""Norms that take a mean off which is zero: what else they do, without that."""

from __future__ import annotations

from math import inf

import numpy as np

from redir.channels.streams import centred
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.layers.readers import Fold, fold_of, folded
from redir.layers.squares import unwritten, writer
from redir.ops import OPSET, is_absent, lookup, tensor_of
from redir.passes.narrow_stream.readings import makes
from redir.passes.narrow_stream.spaces import Space, at


def without_means(space: Space) -> Graph | str:
    """The graph in which no norm of a space takes a mean off, or why one has to.

    The mean of what is written to it has to be zero, as ``canonical-norms`` leaves it where some
    norm is plain. Scales and biases go into layers that read them, where these have weights of
    their own: they hold fewer once the space is narrow. Else a bias is added behind the norm.
    """
    for node in space.meant:
        why = "takes a mean off, which canonical-norms leaves out where it can"
        if not _is_centred(space) or unwritten(space.graph, node):
            return f"{node} {why}"
    plans = [fold_of(space.graph, node, inf) for node in space.meant]
    folds = [plan for plan in plans if isinstance(plan, Fold) and not plan.plain]
    graph = folded(space.graph, folds) if folds else space.graph
    return _written(at(graph, space.place)) if space.meant else graph


def _is_centred(space: Space) -> bool:
    """Whether all constants that make what flows along a space have a mean of zero."""
    for value, axis in makes(space):
        tensor = tensor_of(value)
        assert tensor is not None
        if not np.array_equal(centred(tensor.array, axis), tensor.array):
            return False
    return True


def _written(space: Space) -> Graph:
    """The graph in which norms take no mean off."""
    write, add = writer(space.graph), lookup("Add", space.graph.opset.get("", OPSET))
    assert add is not None

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node not in space.meant:
            return None
        biases = [v for v in inputs[2:3] if not is_absent(v)]
        made = write(node, inputs)
        return add(made, biases[0]) if biases else made

    return transform(space.graph, visit)
