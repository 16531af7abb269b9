"""Write what nodes do together as fewer of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from redir.check.guarantees import NO_GROWTH, NO_MORE_PARAMETERS, SAME_INTERFACE, SAME_OUTPUTS
from redir.ir import Graph, Node, Value
from redir.ir.rewriter import Outputs, in_branches, settled, transform
from redir.ops import OPSET
from redir.passes.simplify import (
    affine,
    axes,
    branches,
    broadcasts,
    fused,
    gemm,
    norms,
    pads,
    parts,
    rows,
    slices,
    twice,
)
from redir.passes.simplify.rules import Around, Rule
from redir.pipeline import Pass

RULES: tuple[Rule, ...] = (
    *slices.RULES,
    *parts.RULES,
    *axes.RULES,
    *twice.RULES,
    *broadcasts.RULES,
    *pads.RULES,
    *gemm.RULES,
    *affine.RULES,
    *branches.RULES,
    *rows.RULES,
    *fused.RULES,
    *norms.RULES,
)


@dataclass(frozen=True)
class Simplify(Pass):
    """Write what two or three nodes do as one: moves behind moves, a Pad in a layer, a Gemm.

    A Slice of a Slice or of a Concat, a Concat of parts of one value, Squeezes and Unsqueezes in a
    row, a Transpose of a Transpose, a Reshape of what only moved axes of size 1 or was reshaped;
    casts and bounds behind each other; a Pad by zeros before a Conv or an AveragePool;
    a MatMul of two axes and the Add behind it; what is added to and multiplied with each channel
    around a layer, which its weights do; layers of one value that are added, and layers in a row;
    an Expand to the size of the other operand; activations and norms that the operator set has,
    from their parts. What is between must be read by nobody else.
    """

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Apply the rules until none fits."""
        return settled(in_branches(graph, self.run), _sweep)

    def explain(self, graph: Graph) -> Iterator[str]:
        """Where a rule nearly fits, and what is in its way."""
        around, rules = Around(_opset(graph), Counter(graph.uses)), _by_operator()
        for node in graph.nodes:
            for rule in rules[node.op.standard]:
                found = rule(node, around)
                if isinstance(found, str):
                    yield f"{node}: {rule.name}: {found}"


def _sweep(graph: Graph) -> Graph:
    around, rules = Around(_opset(graph), Counter()), _by_operator()
    around.uses.update({v: graph.uses[v] for v in graph.inputs.values()})

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        new = node.on(inputs)
        tried = (rule(new, around) for rule in rules[node.op.standard])
        made = next((found for found in tried if not isinstance(found, str | None)), None)
        values = new.outputs if made is None else [made]
        for old, value in zip(node.outputs, values, strict=True):
            around.uses[value] += graph.uses[old]
        return values

    return transform(graph, visit)


def _by_operator() -> Mapping[str, Sequence[Rule]]:
    """The rules for each operator, in their order."""
    found: dict[str, list[Rule]] = defaultdict(list)
    for rule in RULES:
        for name in rule.of:
            found[name].append(rule)
    return found


def _opset(graph: Graph) -> int:
    return graph.opset.get("", OPSET)
