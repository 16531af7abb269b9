"""Make LayerNormalization a norm by the mean of squares, without scale and bias of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from redir import ops
from redir.channels.streams import is_norm
from redir.check.guarantees import SAME_INTERFACE, SAME_OUTPUTS, Guarantee, stored
from redir.ir import Graph, Node, Op, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import DType, Tensor
from redir.layers.sums import apart
from redir.ops import OPSET, is_absent, lookup, tensor_of
from redir.passes.canonical_norms.readers import Fold, fold_of, folded
from redir.passes.canonical_norms.streams import centred, normed_streams
from redir.pipeline import Pass

_FEW = 16  # numbers that norms are written with
_FUSED = 23  # the operator set that has RMSNormalization
_AXES = 18  # the one from which a ReduceMean is told its axes by an operand


def _few_more(before: Graph, after: Graph) -> str | None:
    old, new = stored(before), stored(after, sizes=False)
    return f"{old} parameters became {new}" if new > old + _FEW else None


FEW_MORE = Guarantee(f"no more parameters, but for up to {_FEW}", _few_more)


@dataclass(frozen=True)
class CanonicalNorms(Pass):
    """A LayerNormalization becomes a norm by the mean of squares; layers do what else it did.

    It subtracts the mean of the channels that it reads. So weights, biases and tables that write to
    these are stored less their mean over the channels, and nothing is left to subtract. Its scale
    and bias go into the layers that read it, and so does the scale of an RMSNormalization. All is
    computed in float64 and rounded once. Norms are left alone along other axes than the last, and
    where something else reads or writes what they read or make, or weights are shared. A
    SkipLayerNormalization of onnxruntime's is taken for a sum, and a norm of that.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, FEW_MORE)

    def run(self, graph: Graph) -> Graph:
        """Fold scales and biases, then leave out the means; nothing, if more would be stored."""
        before = apart(graph)
        plans = [plan for _, plan in _plans(before) if isinstance(plan, Fold) and not plan.plain]
        after = _without_means(folded(before, plans) if plans else before)
        return graph if after is before or _few_more(graph, after) else after

    def explain(self, graph: Graph) -> Iterator[str]:
        """Why each norm stays as it is, if it does."""
        for node, plan in _plans(apart(graph)):
            if isinstance(plan, str):
                yield f"{node}: {plan}"


def _plans(graph: Graph) -> Iterator[tuple[Node, Fold | str]]:
    """For each norm what its readers are to take, or why it is left alone."""
    means = {node: stream for stream in normed_streams(graph) for node in stream.norms}
    for node in graph.nodes:
        if node in means:
            why = means[node].obstacle or _unwritten(graph, node)
            yield node, why or fold_of(graph, node)
        elif is_norm(node, "RMSNormalization"):
            yield node, fold_of(graph, node)


def _unwritten(graph: Graph, norm: Node) -> str:
    """Why a norm by the mean of squares cannot be written in its place, if it cannot."""
    single = norm.outputs[0].type.dtype in (np.float32, np.float64)
    return "" if single or _opset(graph) >= _FUSED else "its numbers are of half precision"


def _opset(graph: Graph) -> int:
    return graph.opset.get("", OPSET)


def _without_means(graph: Graph) -> Graph:
    """The graph in which streams have no means, and norms that add no bias subtract none."""
    made, norms = dict[Value, int](), set[Node]()
    for stream in normed_streams(graph):
        plain = [] if stream.obstacle else [n for n in stream.norms if _is_plain(graph, n)]
        norms.update(plain)
        made.update(stream.written if plain else {})
    write = _writer(graph)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        value = node.outputs[0]
        if node in norms:
            return write(node, inputs)
        tensor = tensor_of(value) if value in made else None
        if tensor is None:
            return None
        array = centred(tensor.array, made[value])
        same = np.array_equal(array, tensor.array)
        return None if same else node.on((), value=Tensor.take(array)).outputs

    return transform(graph, visit) if norms else graph


def _is_plain(graph: Graph, norm: Node) -> bool:
    """Whether a norm adds nothing, and can be written by the mean of squares."""
    bias = [tensor_of(v) for v in norm.inputs[2:3] if not is_absent(v)]
    return not any(t is None or t.array.any() for t in bias) and not _unwritten(graph, norm)


def _writer(graph: Graph) -> Callable[[Node, tuple[Value, ...]], Value]:
    """Writes x / sqrt(mean(x^2) + epsilon) scale: in one node, or as onnxruntime joins it."""
    opset = _opset(graph)
    fused = lookup("RMSNormalization", opset)

    @cache
    def number(value: float, dtype: DType) -> Value:
        return ops.constant(np.array(value, dtype))

    def op(name: str) -> Op:
        found = lookup(name, opset)
        assert found is not None
        return found

    def write(norm: Node, inputs: tuple[Value, ...]) -> Value:
        x, scale = inputs[:2]
        epsilon, dtype = float(norm.attrs.get("epsilon", 1e-5)), x.type.dtype
        if fused is not None:
            told = {k: norm.attrs[k] for k in ("stash_type",) if k in norm.attrs}
            return fused(x, scale, axis=-1, epsilon=epsilon, **told)
        squares = op("Pow")(x, number(2.0, dtype))
        along = ops.constant(np.array([-1]))
        told = {"axes": (-1,)} if opset < _AXES else {}
        mean = op("ReduceMean")(squares, *([] if told else [along]), keepdims=1, **told)
        root = op("Sqrt")(op("Add")(mean, number(epsilon, dtype)))
        return op("Mul")(op("Div")(x, root), scale)

    return write
