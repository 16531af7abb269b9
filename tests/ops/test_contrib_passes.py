"""Passes work through onnxruntime's own operators, and around what they cannot follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from redir import ops
from redir.backends.onnx import to_proto
from redir.channels.coupling import Coupling, blocked
from redir.errors import Unsupported
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Source, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.ops.contrib_schemas import MICROSOFT
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.merge import Merge
from redir.passes.prune import Prune
from redir.runtime.onnxruntime import session
from redir.testing import check_on, check_removal
from redir.text import parse
from tests.helpers import const, operators, placeholder

OPSET = {"": 17, MICROSOFT: 1}
HEADS, EACH = 2, 4
WIDE = HEADS * EACH


def rows(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def own(name: str, *inputs: Value, results: int = 1, **attrs: Any) -> Value:
    """The first result of one of onnxruntime's operators."""
    op = ops.lookup(name, 1, MICROSOFT)
    assert op is not None
    return Node(op, inputs, attrs, arity=results).outputs[0]


def graph_of(x: Value, y: Value) -> Graph:
    return Graph({"x": x}, {"y": y}, opset=OPSET)


def hidden(activation: str, first: Array, bias: Array, second: Array) -> Graph:
    """Two layers with an activation in between that adds the bias."""
    x = placeholder("batch", 3)
    y = own(activation, ops.MatMul(x, const(first)), const(bias))
    return graph_of(x, ops.MatMul(y, const(second)))


def attention(q: Array, k: Array, v: Array, bias: Array | None, out: Array) -> Graph:
    """A MultiHeadAttention between layers."""
    x = placeholder("batch", "length", len(q))
    parts = [ops.MatMul(x, const(w)) for w in (q, k, v)]
    more = [] if bias is None else [const(bias)]
    y = own("MultiHeadAttention", *parts, *more, num_heads=HEADS)
    return graph_of(x, ops.MatMul(y, const(out)))


def packed(weights: Array, bias: Array, out: Array) -> Graph:
    """An Attention before a layer."""
    x = placeholder("batch", "length", len(weights))
    y = own("Attention", x, const(weights), const(bias), num_heads=HEADS)
    return graph_of(x, ops.MatMul(y, const(out)))


def node_of(graph: Graph, name: str) -> Node:
    (node,) = (n for n in graph.nodes if n.op.name == name)
    return node


def pins(graph: Graph) -> set[str]:
    return {node.op.name for _, node in blocked(Coupling(graph))}


ALONE = 3 * np.eye(WIDE, dtype=np.float32)


@pytest.mark.parametrize("activation", ["BiasGelu", "FastGelu"])
def test_hidden_channels_are_merged_through_a_gelu(activation: str) -> None:
    first = rows(3, 4)
    first[:, 3] = first[:, 1]
    graph = hidden(activation, first, np.array([1, 2, 3, 2], np.float32), rows(4, 2, seed=1))
    after = check_on(Merge(), graph)
    assert node_of(after, activation).outputs[0].type.size(1) == 3


@pytest.mark.parametrize("activation", ["BiasGelu", "FastGelu"])
def test_another_bias_tells_channels_apart(activation: str) -> None:
    first = rows(3, 4)
    first[:, 3] = first[:, 1]
    graph = hidden(activation, first, np.array([1, 2, 3, 4], np.float32), rows(4, 2, seed=1))
    assert check_on(Merge(), graph) is graph


@pytest.mark.parametrize("activation", ["BiasGelu", "FastGelu"])
def test_hidden_channels_are_pruned_through_a_gelu(activation: str) -> None:
    graph = hidden(activation, rows(3, 4), rows(4), rows(4, 2, seed=1))
    after = check_on(Prune(channel_ratio=0.5), graph)
    assert node_of(after, activation).outputs[0].type.size(1) == 2
    check_removal(graph)


def test_a_dead_channel_is_seen_behind_a_gelu() -> None:
    first, bias = rows(3, 4) + 9, rows(4)
    first[:, 1], bias[1] = 0, 0
    graph = hidden("BiasGelu", first, bias, rows(4, 2, seed=1) + 9)
    after = check_on(EliminateDeadChannels(), graph)
    assert node_of(after, "BiasGelu").outputs[0].type.size(1) == 3


def test_channels_are_pruned_through_a_fused_product() -> None:
    x = placeholder("batch", 3)
    y = own("FusedMatMul", x, const(rows(4, 3)), alpha=0.5, transB=1)
    graph = graph_of(x, own("FusedMatMul", y, const(rows(4, 2, seed=1)), alpha=2.0))
    after = check_on(Prune(channel_ratio=0.5), graph)
    assert node_of_first(after).outputs[0].type.size(1) == 2
    check_removal(graph)


def node_of_first(graph: Graph) -> Node:
    return next(n for n in graph.nodes if n.op.name == "FusedMatMul")


def test_a_norm_of_a_sum_pins_what_it_adds() -> None:
    x = placeholder("batch", 3)
    parts = [ops.MatMul(x, const(rows(3, 4, seed=seed))) for seed in (0, 1)]
    y = own("SkipLayerNormalization", *parts, const(rows(4)), const(rows(4)))
    graph = graph_of(x, ops.MatMul(y, const(rows(4, 2))))
    assert pins(graph) == {"SkipLayerNormalization"}
    assert check_on(Prune(channel_ratio=0.5), graph) is graph


def stream(results: int, *names: str) -> Graph:
    """A sum of two layers, its norm by the mean of squares, and layers behind both."""
    x = placeholder("batch", 3)
    parts = [ops.MatMul(x, const(rows(3, 4, seed=seed))) for seed in (0, 1)]
    op, source = ops.lookup("SkipSimplifiedLayerNormalization", 1, MICROSOFT), Source(outputs=names)
    assert op is not None
    inputs = (*parts, const(rows(4, seed=2) + 9), const(rows(4, seed=3)))
    node = Node(op, inputs, arity=results, source=source)
    ends = [ops.MatMul(node.outputs[i], const(rows(4, 2, seed=4))) for i in {0, results - 1}]
    return graph_of(x, ops.Add(ends[0], ends[-1]))


def test_a_norm_by_the_mean_of_squares_lets_what_it_adds_go() -> None:
    graph = stream(4, "y", "", "", "sum")
    after = check_on(Prune(channel_ratio=0.5), graph)
    assert node_of(after, "SkipSimplifiedLayerNormalization").outputs[3].type.size(1) == 2
    check_removal(graph)


def test_a_mean_that_is_asked_for_pins_what_it_is_of() -> None:
    graph = stream(4, "y", "mean", "", "sum")
    assert pins(graph) == {"SkipSimplifiedLayerNormalization"}
    assert check_on(Prune(channel_ratio=0.5), graph) is graph


@pytest.mark.parametrize("domain", ["", MICROSOFT])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_pairs_of_channels_that_are_turned_are_pruned(domain: str, interleaved: int) -> None:
    x, places = placeholder("batch", 5, 3), const(np.arange(5)[None], np.int64)
    angles = [const(rows(5, EACH // 2, seed=s)) for s in (7, 8)]
    op = ops.lookup("RotaryEmbedding", 1 if domain else 23, domain)
    assert op is not None
    order = (places, *angles) if domain else (*angles, places)
    attrs = {"interleaved": interleaved, "num_heads": HEADS}
    heads = [ops.MatMul(x, const(rows(3, WIDE, seed=s))) for s in range(3)]
    q, k = (Node(op, (h, *order), attrs).outputs[0] for h in heads[:2])
    y = own("MultiHeadAttention", q, k, heads[2], num_heads=HEADS)
    opset = {"": 23, MICROSOFT: 1}
    graph = Graph({"x": x}, {"y": ops.MatMul(y, const(rows(WIDE, 2, seed=3)))}, opset=opset)
    after = check_on(Prune(channel_ratio=0.5), graph)
    assert node_of(after, "MultiHeadAttention").inputs[0].type.size(2) == WIDE // 2
    check_removal(graph)


@pytest.mark.parametrize("bias", [None, rows(3 * WIDE, seed=4)], ids=["plain", "bias"])
def test_channels_of_heads_are_pruned(bias: Array | None) -> None:
    q, k, v = (rows(3, WIDE, seed=s) for s in range(3))
    graph = attention(q, k, v, bias, rows(WIDE, 2, seed=3))
    after = check_on(Prune(channel_ratio=0.5), graph)
    node = node_of(after, "MultiHeadAttention")
    assert [v.type.size(2) for v in node.inputs[:3]] == [WIDE // 2] * 3
    assert (node.attrs["num_heads"], node.attrs["scale"]) == (HEADS, EACH**-0.5)
    check_removal(graph)


def test_equal_values_of_heads_are_merged() -> None:
    v, out = rows(3, WIDE, seed=2), rows(WIDE, 2, seed=3)
    v[:, [3, 7]] = v[:, [1, 5]]
    graph = attention(rows(3, WIDE), rows(3, WIDE, seed=1), v, None, out)
    after = check_on(Merge(), graph)
    assert node_of(after, "MultiHeadAttention").inputs[2].type.size(2) == WIDE - HEADS


@pytest.mark.parametrize("bias", [None, np.zeros(3 * WIDE, np.float32)], ids=["plain", "bias"])
def test_equal_queries_and_keys_are_not_merged(bias: Array | None) -> None:
    q, k = rows(3, WIDE), rows(3, WIDE, seed=1)
    q[:, [3, 7]], k[:, [3, 7]] = q[:, [1, 5]], k[:, [1, 5]]
    graph = attention(q, k, rows(3, WIDE, seed=2), bias, ALONE)
    assert check_on(Merge(), graph) is graph


def test_queries_of_zeros_go_with_their_keys() -> None:
    q = rows(3, WIDE)
    q[:, [3, 7]] = 0
    graph = attention(q, rows(3, WIDE, seed=1), rows(3, WIDE, seed=2), None, ALONE)
    after = check_on(EliminateDeadChannels(), graph)
    assert node_of(after, "MultiHeadAttention").inputs[1].type.size(2) == WIDE - HEADS


def test_queries_of_zeros_stay_where_a_bias_is_added() -> None:
    q = rows(3, WIDE)
    q[:, [3, 7]] = 0
    parts = (q, rows(3, WIDE, seed=1), rows(3, WIDE, seed=2))
    graph = attention(*parts, np.ones(3 * WIDE, np.float32), ALONE)
    assert check_on(EliminateDeadChannels(), graph) is graph


def test_heads_that_are_given_out_stay() -> None:
    x = placeholder("batch", "length", 3)
    parts = [ops.MatMul(x, const(rows(3, WIDE, seed=s))) for s in range(3)]
    y = own("MultiHeadAttention", *parts, results=3, num_heads=HEADS)
    graph = graph_of(x, ops.MatMul(y, const(rows(WIDE, 2))))
    assert pins(graph) == {"MultiHeadAttention"}


def test_channels_of_packed_heads_are_pruned() -> None:
    graph = packed(rows(3, 3 * WIDE), rows(3 * WIDE, seed=1), rows(WIDE, 2, seed=2))
    after = check_on(Prune(channel_ratio=0.5), graph)
    node = node_of(after, "Attention")
    q, k, v = node.attrs["qkv_hidden_sizes"]
    assert q == k
    assert node.inputs[1].type.size(1) == q + k + v < 3 * WIDE
    assert (node.attrs["num_heads"], node.attrs["scale"]) == (HEADS, EACH**-0.5)
    check_removal(graph)


@pytest.mark.parametrize("zero", [(), (0, 3)], ids=["alive", "weights alone"])
def test_packed_heads_are_not_taken_for_dead(zero: tuple[int, ...]) -> None:
    weights = rows(3, 3 * WIDE)
    for place in zero:
        weights[:, place::EACH] = 0
    graph = packed(weights, np.ones(3 * WIDE, np.float32), ALONE)
    assert check_on(EliminateDeadChannels(), graph) is graph
    assert check_on(Merge(), graph) is graph


def test_packed_heads_without_weights_and_bias_go() -> None:
    weights, bias = rows(3, 3 * WIDE), np.ones(3 * WIDE, np.float32)
    weights[:, [1, 5, 9, 13]], bias[[1, 5, 9, 13]] = 0, 0
    after = check_on(EliminateDeadChannels(), packed(weights, bias, ALONE))
    assert node_of(after, "Attention").attrs["qkv_hidden_sizes"] == (6, 6, 8)


def test_what_an_attention_reads_is_pruned() -> None:
    x = placeholder("batch", "length", 3)
    y = ops.Relu(ops.MatMul(x, const(rows(3, 4))))
    y = own("Attention", y, const(rows(4, 3 * WIDE)), num_heads=HEADS)
    graph = graph_of(x, ops.MatMul(y, const(rows(WIDE, 2))))
    after = check_on(Prune(channel_ratio=0.5), graph)
    assert node_of(after, "Attention").inputs[0].type.size(2) == 2
    check_removal(graph)


@pytest.mark.parametrize("results", [1, 2])
def test_constants_that_an_attention_reads_stay(results: int) -> None:
    x, first = placeholder("batch", "length", 3), rows(3, 4)
    first[:, 1] = 0
    y = ops.Relu(ops.Add(ops.MatMul(x, const(first)), const([0, 2, 0, 0])))
    y = own("Attention", y, const(rows(4, 3 * WIDE)), results=results, num_heads=HEADS)
    graph = graph_of(x, ops.MatMul(y, const(rows(WIDE, 2))))
    assert check_on(EliminateDeadChannels(), graph) is graph
    assert list(EliminateDeadChannels().explain(graph))


def test_pruned_heads_run_in_onnxruntime() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = packed(rows(3, 3 * WIDE), rows(3 * WIDE, seed=1), rows(WIDE, 2, seed=2))
    after = Prune(channel_ratio=0.5)(graph)
    feeds = {"x": rows(2, 5, 3, seed=5)}
    np.testing.assert_allclose(session(after)(feeds)["y"], evaluate(after, feeds)["y"], 1e-5, 1e-5)


# What is not known


def file(op: onnx.NodeProto, domain: str = MICROSOFT) -> onnx.ModelProto:
    """A model of one node that reads x of (2, 3, 8), with a Relu behind it."""
    info = [helper.make_tensor_value_info(n, 1, [2, 3, 8]) for n in ("x", "t", "y")]
    relu = helper.make_node("Relu", ["t"], ["y"])
    weights = [
        helper.make_tensor("w", 1, [8, 24], np.ones(192)),
        helper.make_tensor("g", 1, [8], [1] * 8),
    ]
    graph = helper.make_graph([op, relu], "g", info[:1], info[2:], weights, value_info=info[1:2])
    opsets = [helper.make_opsetid(d, v) for d, v in ((domain, 1), ("", 14))]
    return helper.make_model(graph, opset_imports=opsets)


def attending(**attrs: Any) -> onnx.NodeProto:
    return helper.make_node("Attention", ["x", "w"], ["t"], domain=MICROSOFT, **attrs)


def test_a_node_with_another_attribute_is_opaque() -> None:
    op = helper.make_node(
        "Attention", ["x", "w"], ["t"], domain=MICROSOFT, num_heads=2, do_rotary=1
    )
    graph = from_proto(file(op))
    node = node_of(graph, "Attention")
    assert node.op.opaque
    assert node.outputs[0].rank == 3
    assert node.attrs["do_rotary"] == 1
    assert node_of(parse(str(graph)), "Attention").op.opaque
    with pytest.raises(Unsupported, match="do_rotary"):
        evaluate(graph, {"x": np.ones((2, 3, 8), np.float32)})


def test_an_attribute_that_is_at_its_default_is_none() -> None:
    op = helper.make_node("FusedMatMul", ["x", "w"], ["t"], domain=MICROSOFT, transBatchA=0)
    assert not node_of(from_proto(file(op)), "FusedMatMul").op.opaque


def test_an_operator_without_an_entry_is_opaque() -> None:
    op = helper.make_node("BiasSplitGelu", ["x", "g"], ["t"], domain=MICROSOFT)
    assert node_of(from_proto(file(op)), "BiasSplitGelu").op.opaque


def test_operands_that_do_not_fit_make_a_node_opaque() -> None:
    assert node_of(from_proto(file(attending(num_heads=5))), "Attention").op.opaque


def test_it_is_written_as_it_was_read() -> None:
    written = to_proto(from_proto(file(attending(num_heads=2, scale=0.5)))).graph.node[0]
    assert (written.op_type, written.domain) == ("Attention", MICROSOFT)
    attrs = {a.name: helper.get_attribute_value(a) for a in written.attribute}
    assert attrs == {"num_heads": 2, "scale": 0.5}


@pytest.mark.parametrize("name", ["LayerNormalization", "SimplifiedLayerNormalization"])
def test_a_norm_that_the_operator_set_lacks_is_known(name: str) -> None:
    graph = from_proto(file(helper.make_node(name, ["x", "g"], ["t"])))
    assert not node_of(graph, name).op.opaque
    assert operators(from_proto(to_proto(graph))) == [name, "Relu"]
    assert operators(parse(str(graph))) == [name, "Relu"]
