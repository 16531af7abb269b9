"""What a pass promises: each promise is the check that can refute it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redir import ops
from redir.errors import Unsupported
from redir.feeds import whole_feeds
from redir.interpret import evaluate
from redir.ir import NO_DTYPE, Array, Graph, Tensor, Type
from redir.ops import tensor_of
from redir.widen import widened


@dataclass(frozen=True)
class Guarantee:
    """``refute(before, after)`` says how the promise is broken, or None if it is not.

    ``numeric`` marks a check that runs both graphs.
    """

    name: str
    refute: Callable[[Graph, Graph], str | None]
    numeric: bool = False


def constants(graph: Graph) -> list[Tensor]:
    """The constants that the graph itself reads, each once."""
    held = (tensor_of(v) for n in graph.nodes for v in n.outputs)
    return [t for t in held if t is not None]


def _interface(before: Graph, after: Graph) -> str | None:
    for kind, old, new in (
        ("inputs", before.inputs, after.inputs),
        ("outputs", before.outputs, after.outputs),
    ):
        if list(old) != list(new):
            return f"{kind} {list(old)} became {list(new)}"
        for name in old:
            if not _agree(old[name].type, new[name].type):
                return f"{name} was {old[name].type} and is {new[name].type}"
    return None


def _agree(a: Type, b: Type) -> bool:
    """Whether one tensor could be of both types."""
    if a.dtype != b.dtype and NO_DTYPE not in {a.dtype, b.dtype}:
        return False
    if a.shape is None or b.shape is None:
        return True
    pairs = list(zip(a.shape, b.shape, strict=False))
    return len(a.shape) == len(b.shape) and all(
        i == j or not (isinstance(i, int) and isinstance(j, int)) for i, j in pairs
    )


EXACT = frozenset(
    """Abs Add And Cast Clip Concat ConstantOfShape Conv ConvTranspose Dropout Equal Expand Flatten
    Gather Gemm Greater Identity Less MatMul Max MaxPool Min Mul Neg Not Or PRelu Pad ReduceMax
    ReduceMin ReduceSum Relu Reshape Shape Sign Slice Split Squeeze Sub Sum Tile Transpose Unsqueeze
    Where""".split()
)


def is_whole(graph: Graph) -> bool:
    """Whether sums of products stay whole numbers, so that == is fair in any order."""
    nodes = [n for n in graph.walk() if n.op not in (ops.Const, ops.Absent)]
    held = (t.array for t in constants(graph) if t.array.dtype.kind == "f")
    floats = [array.astype(np.float64) for array in held]
    return all(n.op.name in EXACT for n in nodes) and all(
        np.array_equal(a, np.round(a)) and bool(np.all(np.abs(a) < 2**20)) for a in floats
    )


def _outputs(before: Graph, after: Graph) -> str | None:
    old, new = widened(before), widened(after)
    exact = is_whole(before)
    for seed in range(3):
        feeds = whole_feeds(old, seed)
        try:
            expected = evaluate(old, feeds)
        except Unsupported:
            return None  # what cannot be run cannot be refuted
        found = evaluate(new, feeds)
        for name, array in expected.items():
            if not _equal(array, found[name], exact=exact):
                return f"output {name!r} differs on the whole numbers of seed {seed}"
    return None


def _equal(a: Array, b: Array, *, exact: bool) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if exact or a.dtype.kind != "f":
        return a.shape == b.shape and bool(np.all((a == b) | _both_nan(a, b)))
    scale = float(np.max(np.abs(a[np.isfinite(a)]), initial=1e-30))
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6 * scale, equal_nan=True)


def _both_nan(a: Array, b: Array) -> Array | bool:
    """Where both computed the same indefinite number, such as 0/0; a weight is never NaN."""
    return np.isnan(a) & np.isnan(b) if a.dtype.kind == b.dtype.kind == "f" else False


def operations(graph: Graph) -> int:
    """The number of nodes that compute something, bodies included."""
    return sum(n.op not in (ops.Const, ops.Absent) for n in graph.walk())


def _no_growth(before: Graph, after: Graph) -> str | None:
    old, new = operations(before), operations(after)
    return f"{old} nodes became {new}" if new > old else None


def _no_more_parameters(before: Graph, after: Graph) -> str | None:
    old, new = (sum(t.array.size for t in constants(g)) for g in (before, after))
    return f"{old} parameters became {new}" if new > old else None


def _constants_only(before: Graph, after: Graph) -> str | None:
    old, new = before.nodes, after.nodes
    if [n.op for n in old] != [n.op for n in new]:
        return "the operators changed"
    for a, b in zip(old, new, strict=True):
        if [v.type for v in a.outputs] != [v.type for v in b.outputs]:
            return f"{a} changed its type"
        if a.op != ops.Const and a.attrs != b.attrs:
            return f"{a} changed its attributes"
    return None


SAME_INTERFACE = Guarantee("same interface", _interface)
SAME_OUTPUTS = Guarantee("same outputs", _outputs, numeric=True)
NO_GROWTH = Guarantee("no growth", _no_growth)
NO_MORE_PARAMETERS = Guarantee("no more parameters", _no_more_parameters)
CONSTANTS_ONLY = Guarantee("only constants move", _constants_only)
