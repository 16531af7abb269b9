"""The meaning of a graph: what its operators compute, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from redir.errors import BadInput, RedirError, Unsupported
from redir.ir import Graph, Node, Value
from redir.tensor import Array


def evaluate(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Any]:
    """The outputs of ``graph`` by name, arrays as a rule, on ``feeds`` by input name.

    An intermediate array is dropped after its last use.

    Raises:
        BadInput: an input is missing.
        Unsupported: an operator has no kernel.
    """
    return _run(graph, {v: _feed(graph, name, feeds) for name, v in graph.inputs.items()})


def values(graph: Graph, feeds: Mapping[str, Array], wanted: list[Value]) -> list[Any]:
    """The arrays of any values of ``graph``, in the order of ``wanted``."""
    probe = {str(i): v for i, v in enumerate(wanted)}
    found = evaluate(Graph(graph.inputs, probe, defaults=graph.defaults), feeds)
    return [found[name] for name in probe]


def compute(node: Node, arrays: Sequence[Any]) -> Sequence[Any]:
    """The outputs of one node on arrays, None for operands that are absent.

    Raises:
        Unsupported: the operator has no kernel, or it fails on these arrays.
    """
    try:
        with np.errstate(all="ignore"):  # infinities are numbers like others here
            return node.op.evaluate(node, *arrays)
    except RedirError:
        raise
    except Exception as error:  # a kernel raises whatever numpy raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unsupported(f"{node}: its kernel failed: {reason}") from error


def _feed(graph: Graph, name: str, feeds: Mapping[str, Array]) -> Array:
    if name in feeds:
        return feeds[name]
    if name in graph.defaults:
        return graph.defaults[name].array
    raise BadInput(f"input {name!r} of {graph.name!r} is not given")


def _run(graph: Graph, env: dict[Value, Any]) -> dict[str, Any]:
    left = Counter(graph.uses)
    for node in graph.nodes:
        out = compute(node, [env[v] for v in node.inputs])
        env.update(zip(node.outputs, out, strict=False))
        for value in node.inputs:
            left[value] -= 1
            if not left[value]:
                del env[value]
    return {name: env[v] for name, v in graph.outputs.items()}
