"""canonical-norms: what it leaves alone, the conformance kit, and dead channels behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from redir import ops
from redir.backends.onnx import to_proto
from redir.check.guarantees import NO_GROWTH, constants
from redir.errors import Broken
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.layers import readers
from redir.passes import CanonicalNorms, canonical_norms
from redir.passes.canonical_norms import streams
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.pipeline import Pipeline
from redir.runtime.inputs import whole_feeds
from redir.testing import check_on, check_pass, check_removal
from tests.extras import ort
from tests.helpers import const, operators, placeholder
from tests.streams import IDS, PARTS, Stream, layer_norm

CANON = CanonicalNorms()


def logits(graph: Graph) -> Array:
    found: Array = evaluate(graph, whole_feeds(graph, 0))["logits"]
    return found


def bare(x: Value, scale: Value) -> Value:
    """A norm without a bias."""
    return ops.LayerNormalization(x, scale)


@pytest.mark.parametrize("opset", [17, 21, 23])
def test_norms_become_plain(opset: int) -> None:
    graph = Stream(layer_norm, bias=True, opset=opset).graph()
    after = check_on(CANON, graph)
    assert "LayerNormalization" not in operators(after)
    assert ("RMSNormalization" in operators(after)) == (opset == 23)
    scales = [n.inputs[1] for n in after.nodes if n.op.name in {"RMSNormalization", "Mul"}]
    ones = [t for v in scales if (t := ops.tensor_of(v)) is not None]
    assert [t.array.tolist() for t in ones] == [[1] * 8] * 3
    np.testing.assert_allclose(logits(after), logits(graph), 1e-5, 1e-5)


def test_there_are_no_more_nodes_where_the_operator_set_has_the_norm() -> None:
    graph = Stream(layer_norm, bias=True).graph()
    assert NO_GROWTH.refute(graph, check_on(CANON, graph)) is None


def test_a_second_run_changes_nothing() -> None:
    after = CANON(Stream(layer_norm, bias=True).graph())
    assert CANON(after) is after


def test_onnxruntime_joins_the_parts() -> None:
    """What is written for older operator sets is one node to it, as fast as the norm before."""
    graph = Stream(layer_norm, bias=True, opset=17).graph()
    model = to_proto(CANON(graph))
    assert operators(from_proto(model)) == operators(CANON(graph))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = whole_feeds(graph, 0)
    (found,) = session.run(None, feeds)
    np.testing.assert_allclose(found, logits(graph), 1e-4, 1e-4)


@pytest.mark.parametrize("opset", [17, 23])
def test_dead_channels_behind_layer_norms_go(opset: int) -> None:
    """Of a stream that is centred over the channels that live, the others are dead."""
    stream = Stream(layer_norm, dead=(1, 4, 5), balanced=True, bias=True, opset=opset)
    graph = stream.graph()
    assert EliminateDeadChannels()(graph) is graph
    after = Pipeline.parse("canonical-norms,eliminate-dead-channels").run(graph)
    assert {t.array.shape[-1] for t in constants(after) if t.array.shape[:1] == (10,)} == {5}
    np.testing.assert_allclose(logits(after), logits(graph), 1e-5, 1e-5)


def test_any_channels_of_the_stream_may_go_behind_it() -> None:
    assert check_removal(CANON(Stream(layer_norm, bias=True).graph())) is not None


def test_the_scale_of_a_norm_by_squares_is_taken_too() -> None:
    graph = Stream(PARTS["one node"]).graph()
    after = check_on(CANON, graph)
    held = [ops.tensor_of(n.inputs[1]) for n in after.nodes if n.op.name == "RMSNormalization"]
    assert [t.array.tolist() for t in held if t] == [[1] * 8] * 3


X = placeholder(3, 2)
TABLE = np.arange(40).reshape(5, 8) % 7 / 8
MATRIX = (np.arange(32).reshape(8, 4) % 5 - 2) / 4
SCALE = np.array([1, 2, 0.5, 1, 3, 1, 1, 2])


def written(rows: int = 2) -> Value:
    return ops.MatMul(X, const(TABLE[:rows]))


def read(y: Value) -> Value:
    return ops.Add(ops.MatMul(y, const(MATRIX)), const([1, 2, 3, 4]))


def normed(x: Value, scale: object = SCALE, bias: object = SCALE[::-1], **attrs: Any) -> Value:
    return ops.LayerNormalization(x, const(scale), const(bias), **attrs)


def of(y: Value, **more: Value) -> Graph:
    return Graph({"x": X}, {"y": y, **more})


def convolved(pads: int, **attrs: Any) -> Value:
    """A convolution of three places, of which the channels are normed."""
    places = ops.Transpose(ops.Unsqueeze(normed(written(), **attrs), AXIS), perm=(0, 2, 1))
    kernel = const(np.arange(48).reshape(2, 8, 3) % 5 - 2)
    return ops.Conv(places, kernel, const([1, 2]), pads=(pads, pads))


AXIS = const([0], np.int64)
ROW = const(TABLE[2])
IMAGE = placeholder(1, 1, 4, 4)
PATCHES = ops.Conv(IMAGE, const(TABLE.T[:, :4].reshape(8, 1, 2, 2)), ROW, strides=(2, 2))
TOKENS = ops.Transpose(ops.Reshape(PATCHES, const([1, 8, 4], np.int64)), perm=(0, 2, 1))
TAKEN: dict[str, Graph] = {
    "weights": of(read(normed(written()))),
    "a bias": of(read(normed(ops.Add(written(), ROW)))),
    "a Gemm": of(read(normed(ops.Gemm(X, const(TABLE[:2].T), ROW, transB=1, alpha=0.5)))),
    "a difference": of(read(normed(ops.Sub(ROW, written())))),
    "a product with a number": of(read(normed(ops.Mul(written(), const([[2.0]]))))),
    "a weight that is transposed": of(
        read(normed(ops.MatMul(X, ops.Transpose(const(TABLE[:2].T), perm=(1, 0)))))
    ),
    "what is moved": of(read(ops.Reshape(normed(written()), const([1, 3, 8], np.int64)))),
    "a mean over places": of(read(ops.ReduceMean(normed(written()), const([0], np.int64)))),
    "a Gemm that reads": of(ops.Gemm(normed(written()), const(MATRIX), const([1, 2, 3, 4]))),
    "a Conv that reads": of(convolved(0)),
    "a Conv that reads zeros around it, where no bias is added": of(convolved(1, bias=np.zeros(8))),
    "no bias that reads": of(ops.MatMul(normed(written()), const(MATRIX))),
    "two layers that read": of(
        ops.Mul(read(y := normed(written())), ops.MatMul(y, const(MATRIX[::-1])))
    ),
    "a norm without a bias": of(
        ops.MatMul(ops.LayerNormalization(written(), const(SCALE)), const(MATRIX))
    ),
    "a norm without a bias, given out": of(ops.LayerNormalization(written(), const(SCALE))),
    "one that adds zeros, given out": of(normed(written(), bias=np.zeros(8))),
    "patches of an image": Graph(
        {"x": IMAGE}, {"y": read(normed(ops.Add(TOKENS, const(TABLE[:4]))))}
    ),
    "words of a table": Graph({"x": IDS}, {"y": read(normed(ops.Gather(const(TABLE), IDS)))}),
    "a size that is read": of(
        read(ops.Reshape(normed(w := written()), ops.Shape(w))), z=ops.Shape(w)
    ),
}


@pytest.mark.parametrize("graph", TAKEN.values(), ids=TAKEN)
def test_taken(graph: Graph) -> None:
    assert "LayerNormalization" not in operators(check_on(CANON, graph))


def other(x: Value) -> Value:
    return ops.Mul(x, const(2))


SHARED, FLOWS = const(MATRIX), ops.MatMul(X, const(np.ones((2, 8))))
EIGHT = ops.MatMul(const(np.ones((8, 3))), FLOWS)
SQUARE = const(np.arange(64).reshape(8, 8))
LEFT: dict[str, tuple[Graph, str]] = {
    "an input that is added": (
        Graph({"x": (v := placeholder(3, 8))}, {"y": read(normed(v))}),
        "reads an input of the graph",
    ),
    "what is bent": (of(read(normed(ops.Relu(written())))), "Relu makes it"),
    "what is scaled by channel": (
        of(read(normed(ops.Mul(written(), const(SCALE))))),
        "Mul makes it, which mixes or scales channels",
    ),
    "the same number for all channels": (
        of(read(normed(ops.Add(written(), const(2))))),
        "Add makes it",
    ),
    "another reader of the stream": (
        of(read(normed(w := written())), z=ops.MatMul(w, const(MATRIX))),
        "MatMul reads it, which would miss its mean",
    ),
    "a norm by squares of the stream": (
        of(read(normed(w := written())), z=ops.RMSNormalization(w, const(SCALE))),
        "RMSNormalization makes it",
    ),
    "a stream that is given out": (of(read(normed(w := written())), z=w), "gives it out"),
    "a table that others read": (
        of(read(normed(ops.MatMul(X, t := const(TABLE[:2])))), z=ops.Relu(t)),
        "Relu makes it",
    ),
    "a constant along two axes": (
        of(read(normed(ops.Add(ops.MatMul(EIGHT, SQUARE), ops.Transpose(SQUARE, perm=(1, 0)))))),
        "in two ways",
    ),
    "a norm that is given out": (of(normed(written())), "gives out what it makes"),
    "a reader that is no layer": (of(read(other(normed(written())))), "Mul reads it, which is no"),
    "a Conv that reads zeros around it": (of(convolved(1)), "reads zeros around it"),
    "a depthwise Conv": (
        of(
            ops.Conv(
                ops.Transpose(ops.Unsqueeze(normed(written()), AXIS), perm=(0, 2, 1)),
                const(np.ones((8, 1, 1))),
            )
        ),
        "Conv reads it, which is no layer",
    ),
    "weights that flow": (
        of(ops.MatMul(normed(written()), ops.Transpose(FLOWS, perm=(1, 0)))),
        "not a constant",
    ),
    "weights that others read": (
        of(ops.MatMul(normed(written()), SHARED), z=ops.MatMul(FLOWS, SHARED)),
        "others read the weights",
    ),
    "a bias that flows": (
        of(ops.Gemm(normed(written()), const(MATRIX), ops.MatMul(X, const(np.ones((2, 4)))))),
        "is not one constant number",
    ),
    "weights too large": (
        of(ops.MatMul(normed(written(), SCALE * 1e20), const(MATRIX * 1e20))),
        "would be too large",
    ),
    "a bias too large": (
        of(ops.MatMul(normed(written(), bias=SCALE * 1e20), const(MATRIX * 1e20))),
        "would be too large",
    ),
    "a bias for many outputs": (
        of(ops.MatMul(normed(written()), const(np.ones((8, 9))))),
        "more numbers than its own",
    ),
    "half precision": (
        of(
            ops.MatMul(
                ops.LayerNormalization(
                    ops.MatMul(ops.Cast(X, to=10), const(TABLE[:2], np.float16)),
                    const(SCALE, np.float16),
                ),
                const(MATRIX, np.float16),
            )
        ),
        "half precision",
    ),
}


@pytest.mark.parametrize(("graph", "why"), LEFT.values(), ids=LEFT)
def test_left_alone(graph: Graph, why: str) -> None:
    assert CANON(graph) is graph
    assert any(why in line for line in CANON.explain(graph))


TWO = Node(ops.LayerNormalization, (written(), ROW), arity=2)
UNNAMED = {
    "a scale that flows": of(
        read(ops.LayerNormalization(written(), ops.ReduceMax(FLOWS, const([0, 1], np.int64))))
    ),
    "along two axes": of(read(ops.LayerNormalization(written(), const(np.ones((3, 8))), axis=0))),
    "a mean that is read": of(read(TWO.outputs[0]), z=TWO.outputs[1]),
    "plain already": of(ops.MatMul(ops.RMSNormalization(written(), const(np.ones(8))), SHARED)),
}


@pytest.mark.parametrize("graph", UNNAMED.values(), ids=UNNAMED)
def test_left_alone_without_a_word(graph: Graph) -> None:
    assert CANON(graph) is graph
    assert list(CANON.explain(graph)) == []


def test_a_norm_of_a_stream_stays_beside_others() -> None:
    """Others lose their means, and it subtracts a mean of zero."""
    stream = Stream(layer_norm, bias=True)
    x = stream.embedded()
    outputs = {"y": stream.normed(x), "z": stream.linear(stream.normed(x), 3)}
    graph = Graph({"ids": IDS}, outputs, opset={"": 23})
    after = check_on(CANON, graph)
    assert sorted(set(operators(after)) & {"LayerNormalization", "RMSNormalization"}) == [
        "LayerNormalization",
        "RMSNormalization",
    ]


def test_biases_that_are_shared_are_not_stored_more_often() -> None:
    bias = const([1, 2, 3, 4])
    y = normed(written())
    both = [ops.Add(ops.MatMul(y, const(m)), bias) for m in (MATRIX, MATRIX[::-1], -MATRIX)]
    graph = of(both[0], b=both[1], c=both[2])
    assert CANON(graph) is graph


# The conformance kit, and wrong versions


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Small transformers, with norms of all kinds."""
    norm = draw(st.sampled_from([layer_norm, bare, *PARTS.values()]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    width, bias = draw(st.sampled_from([4, 6, 8])), draw(st.booleans())
    dead = draw(st.sampled_from([(), (1,), (0, 2)]))
    balanced = draw(st.booleans())
    opset = draw(st.sampled_from([17, 21, 23])) if norm in (layer_norm, bare) else 23
    return Stream(norm, width, dead, balanced, bias, opset, rng).graph()


def test_keeps_its_promises() -> None:
    check_pass(CANON, networks())


def mean_stays(array: Array, _: int) -> Array:
    return array


def along_another(array: Array, axis: int) -> Array:
    less: Array = (array - array.mean(axis - 1, keepdims=True)).astype(array.dtype)
    return less


def check_all() -> None:
    for graph in (*TAKEN.values(), *(graph for graph, _ in LEFT.values())):
        check_on(CANON, graph)


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the mean stays": lambda m: m.setattr(canonical_norms, "centred", mean_stays),
    "another axis is centred": lambda m: m.setattr(canonical_norms, "centred", along_another),
    "any reader will do": lambda m: m.setattr(readers, "_misfit", lambda *_: None),
    "biases are forgotten": lambda m: m.setattr(readers, "_biased", lambda a, _: a.bias),
    "streams have no obstacle": lambda m: m.setattr(streams.Stream, "refuse", lambda *_: None),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_version_is_refuted(
    wrong: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(monkeypatch)
    with pytest.raises(Broken):
        check_all()
