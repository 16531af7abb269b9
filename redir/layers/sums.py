"""Sums that onnxruntime's optimiser joins to what reads them: written apart again."""

from __future__ import annotations

from redir.ir import Graph, Node, Op, Value
from redir.ir.rewriter import Outputs, transform
from redir.ops import OPSET, is_absent, lookup
from redir.ops.contrib_schemas import MICROSOFT

_TINY = 1e-12  # the epsilon of a norm of a sum that states none


def _own(name: str) -> Op:
    found = lookup(name, 1, MICROSOFT)
    assert found is not None
    return found


_JOINED = _own("SkipLayerNormalization")
_GELUS = {"BiasGelu": _own("Gelu"), "FastGelu": _own("FastGelu")}


def apart(graph: Graph) -> Graph:
    """The graph with an Add, and what it is joined to, for each of these operators.

    They are SkipLayerNormalization, unless its mean or deviation is read, BiasGelu and FastGelu.
    """
    opset = graph.opset.get("", OPSET)
    add, norm = (lookup(name, opset) for name in ("Add", "LayerNormalization"))
    if add is None or norm is None:
        return graph

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        gelu = _GELUS.get(node.op.name) if node.op.domain == MICROSOFT else None
        if gelu is not None and not node.op.opaque and len(inputs) > 1:
            return gelu(add(*inputs))
        if node.op != _JOINED or any(graph.uses[y] for y in node.outputs[1:3]):
            return None
        x, skip, scale, *rest = inputs
        shift, biases = ([v for v in part if not is_absent(v)] for part in (rest[:1], rest[1:]))
        total = add(x, skip)
        for bias in biases:
            total = add(total, bias)
        told = {"epsilon": float(node.attrs.get("epsilon", _TINY))}
        source = node.source and node.source.of(0)
        y = Node(norm, (total, scale, *shift), told, source=source).outputs[0]
        return [y, total, total, total][: node.arity]

    return transform(graph, visit)
