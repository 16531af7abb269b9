"""canonical-norms on what onnxruntime's optimiser joins: a sum and a norm, a bias and a Gelu."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from redir import ops
from redir.ir import Attr, Graph, Node, Value
from redir.ops.contrib_schemas import MICROSOFT
from redir.passes import CanonicalNorms
from redir.passes.prune import Prune
from redir.testing import check_on, check_removal
from tests.helpers import const, operators, placeholder

WIDE = 8
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Value:
    return const(RNG.normal(size=shape))


def own(name: str, *inputs: Value, results: int = 1, **attrs: Attr) -> Sequence[Value]:
    op = ops.lookup(name, 1, MICROSOFT)
    assert op is not None
    return Node(op, inputs, attrs, arity=results).outputs


def joined(gelu: str = "BiasGelu", opset: int = 17, *, mean: bool = False) -> Graph:
    """Two blocks that add to a stream of channels, with the norms of sums in between."""
    x = placeholder("batch", 3)
    stream, more = (ops.MatMul(x, normal(3, WIDE)) for _ in range(2))
    y = stream
    for _ in range(2):
        y, middle, _, stream = own(
            "SkipLayerNormalization", stream, more, normal(WIDE), normal(WIDE), results=4
        )
        (hidden,) = own(gelu, ops.MatMul(y, normal(WIDE, 5)), normal(5))
        more = ops.MatMul(hidden, normal(5, WIDE))
    y = own("SkipLayerNormalization", stream, more, normal(WIDE), normal(WIDE), normal(WIDE))[0]
    y = ops.Add(ops.MatMul(y, normal(WIDE, 2)), normal(2))
    y, sets = ops.Add(y, middle) if mean else y, {"": opset, MICROSOFT: 1}
    return Graph({"x": x}, {"y": y}, opset=sets)


@pytest.mark.parametrize("opset", [14, 17, 23])
@pytest.mark.parametrize("gelu", ["BiasGelu", "FastGelu"])
def test_norms_of_sums_become_plain(gelu: str, opset: int) -> None:
    graph = joined(gelu, opset)
    after = check_on(CanonicalNorms(), graph)
    assert not {"SkipLayerNormalization", "LayerNormalization"} & set(operators(after))
    check_removal(after)


def test_channels_that_they_pinned_are_pruned_behind_it() -> None:
    graph = joined()
    assert "SkipLayerNormalization" in operators(check_on(Prune(channel_ratio=0.5), graph))
    after = check_on(Prune(channel_ratio=0.5), CanonicalNorms()(graph))
    assert all(n.outputs[0].type.size(1) == WIDE // 2 for n in after.nodes if n.op.name == "Pow")


def test_norms_stay_where_the_mean_of_one_is_read() -> None:
    graph = joined(mean=True)
    assert check_on(CanonicalNorms(), graph) is graph


def test_nothing_is_written_apart_where_no_norm_becomes_plain() -> None:
    x = placeholder("batch", WIDE)
    y = own("SkipLayerNormalization", x, ops.MatMul(x, normal(WIDE, WIDE)), normal(WIDE))[0]
    graph = Graph({"x": x}, {"y": ops.MatMul(y, normal(WIDE, 2))}, opset={"": 17, MICROSOFT: 1})
    assert check_on(CanonicalNorms(), graph) is graph
