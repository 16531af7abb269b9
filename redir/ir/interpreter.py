"""The meaning of a graph: what its operators compute, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from redir.errors import BadInput, RedirError, TooLarge, Unsupported
from redir.ir import limits
from redir.ir.graph import Graph, Node, Value
from redir.ir.tensor import Array, Tensor


def evaluate(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Any]:
    """The outputs of ``graph`` by name, arrays as a rule, on ``feeds`` by input name.

    An intermediate array is dropped after its last use.

    Raises:
        BadInput: an input is missing.
        TooLarge: it takes more memory or steps than a graph of its size may.
        Unsupported: an operator has no kernel.
    """
    with limits.counting(), limits.following(_stored(graph)):
        return _run(graph, {v: _feed(graph, name, feeds) for name, v in graph.inputs.items()})


def _stored(graph: Graph) -> int:
    """The bytes of the constants that nodes hold."""
    held = (a for n in graph.nodes if not n.inputs for a in n.attrs.values())
    return sum(a.nbytes for a in held if isinstance(a, Tensor))


def values(graph: Graph, feeds: Mapping[str, Array], wanted: list[Value]) -> list[Any]:
    """The arrays of any values of ``graph``, in the order of ``wanted``."""
    probe = {str(i): v for i, v in enumerate(wanted)}
    found = evaluate(Graph(graph.inputs, probe, defaults=graph.defaults), feeds)
    return [found[name] for name in probe]


def compute(node: Node, arrays: Sequence[Any], held: int = 0) -> Sequence[Any]:
    """The outputs of one node on arrays, None for operands that are absent.

    ``held`` are the bytes of what is kept beside its results.

    Raises:
        Unsupported: the operator has no kernel, or it fails on these arrays.
        TooLarge: the results take more memory than they may.
    """
    limits.ask(held + node.op.needs(node, *arrays), str(node))
    try:
        with np.errstate(all="ignore"):  # infinities are numbers like others here
            return node.op.evaluate(node, *arrays)
    except RedirError:
        raise
    except MemoryError:
        raise TooLarge(f"{node}: there is not enough memory") from None
    except Exception as error:  # a kernel raises whatever numpy raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unsupported(f"{node}: its kernel failed: {reason}") from error


def _feed(graph: Graph, name: str, feeds: Mapping[str, Array]) -> Array:
    if name in feeds:
        return feeds[name]
    if name in graph.defaults:
        return graph.defaults[name].array
    raise BadInput(f"input {name!r} of {graph.name!r} is not given")


def _size(array: Any) -> int:
    return array.nbytes if isinstance(array, np.ndarray) else 0


def _is_given(value: Value) -> bool:
    """Whether a value was there before the run: an input, or a constant."""
    return value.node is None or value.node.op.domain == "redir"


def _run(graph: Graph, env: dict[Value, Any]) -> dict[str, Any]:
    left, held = Counter(graph.uses), 0
    for node in graph.nodes:
        out = compute(node, [env[v] for v in node.inputs], held)
        env.update(zip(node.outputs, out, strict=False))
        held += 0 if node.op.domain == "redir" else sum(map(_size, out))
        for value in node.inputs:
            left[value] -= 1
            if not left[value]:
                held -= 0 if _is_given(value) else _size(env[value])
                del env[value]
    return {name: env[v] for name, v in graph.outputs.items()}
