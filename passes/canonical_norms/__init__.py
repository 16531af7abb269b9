"""Make LayerNormalization a norm by the mean of squares, without scale and bias of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from redir.channels.streams import centred, is_norm
from redir.check.guarantees import SAME_INTERFACE, SAME_OUTPUTS, Guarantee, stored
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, transform
from redir.ir.tensor import Tensor
from redir.layers.readers import Fold, fold_of, folded
from redir.layers.squares import unwritten, writer
from redir.layers.sums import apart
from redir.ops import is_absent, tensor_of
from redir.passes.canonical_norms.streams import normed_streams
from redir.pipeline import Pass

_FEW = 16  # numbers that norms are written with


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
            why = means[node].obstacle or unwritten(graph, node)
            yield node, why or fold_of(graph, node)
        elif is_norm(node, "RMSNormalization"):
            yield node, fold_of(graph, node)


def _without_means(graph: Graph) -> Graph:
    """The graph in which streams have no means, and norms that add no bias subtract none."""
    made, norms = dict[Value, int](), set[Node]()
    for stream in normed_streams(graph):
        plain = [] if stream.obstacle else [n for n in stream.norms if _is_plain(graph, n)]
        norms.update(plain)
        made.update(stream.written if plain else {})
    write = writer(graph)

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
    return not any(t is None or t.array.any() for t in bias) and not unwritten(graph, norm)
