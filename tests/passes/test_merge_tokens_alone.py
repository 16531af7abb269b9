"""merge-tokens: each thing that keeps tokens from being merged, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.passes import MergeTokens
from redir.testing import check_on
from tests.encoders import WIDTH, Attend, Encoder, heads, joined, scores, split, weighed, weights
from tests.helpers import const, ints

MASK = np.triu(np.full((9, 9), -1e9), 1)
PAIRS = np.arange(81).reshape(9, 9) % 7


def biased(held: Array) -> Attend:
    """Attention with something else for each pair of tokens."""

    def attend(_: int, q: Value, k: Value, v: Value) -> Value:
        return weighed(ops.Softmax(ops.Add(scores(q, k), const(held)), axis=-1), v)

    return attend


def fused(*mask: Value, **attrs: int) -> Attend:
    def attend(_: int, q: Value, k: Value, v: Value) -> Value:
        parts = (heads(x, 0, 2, 1, 3) for x in (q, k, v))
        return joined(ops.Attention(*parts, *mask, **attrs))

    return attend


def reweighed(change: Callable[[Value], Value]) -> Attend:
    """Attention with weights that are changed."""
    return lambda _, q, k, v: weighed(change(weights(q, k)), v)


def counted(_: int, q: Value, k: Value, v: Value) -> Value:
    """Scores divided by the number of tokens."""
    count = ops.Cast(ops.Shape(q, start=1, end=2), to=1)
    return weighed(ops.Softmax(ops.Div(scores(q, k), count), axis=-1), v)


def sized() -> Attend:
    """With sizes that the first layer reads for all."""
    held: list[Value] = []

    def attend(_: int, q: Value, k: Value, v: Value) -> Value:
        held.append(ops.Shape(q))
        return ops.Reshape(weighed(weights(q, k), v), held[0])

    return attend


def linear(_: int, q: Value, k: Value, v: Value) -> Value:
    """Weights that are no Softmax."""
    return weighed(ops.Sigmoid(scores(q, k)), v)


def behind(first: Attend, others: Attend) -> Attend:
    """A first layer that attends otherwise than the others."""
    left = [first]

    def attend(n: int, q: Value, k: Value, v: Value) -> Value:
        return (left.pop() if left else others)(n, q, k, v)

    return attend


def skipping() -> Callable[[Value], Value]:
    """The sum of the first block is added in the last one, too."""
    kept: list[Value] = []

    def told(x: Value) -> Value:
        kept.append(x)
        return ops.Add(x, kept[0]) if len(kept) > 2 else x

    return told


def at(end: Callable[[Value], Value]) -> Graph:
    return Encoder().graph(end)


def first_part(x: Value) -> Value:
    return Node(ops.Split, (x, ints(4, 5)), {"axis": 1}, arity=2).outputs[0]


def beside(graph: Graph) -> Graph:
    """Another encoder of the same tokens beside it."""
    other = Encoder(seed=5).graph()
    return Graph(
        {"x": graph.inputs["x"], "z": other.inputs["x"]},
        {"y": graph.outputs["y"], "w": other.outputs["y"]},
        opset=graph.opset,
    )


def zeros(x: Value, *sizes: int) -> Value:
    """Zeros for each example."""
    return ops.Expand(const(0), ops.Concat(ops.Shape(x, end=1), ints(*sizes), axis=0))


TURNED = (0, 2, 1)
LEFT_ALONE = {
    "tokens are given out": (at(lambda x: x), "the graph gives out its tokens"),
    "the last is read": (at(lambda x: ops.Gather(x, const(-1, np.int64), axis=1)), "Gather reads"),
    "the last ones are read": (at(lambda x: ops.Slice(x, ints(-2), ints(9), ints(1))), "Slice"),
    "all but the last are read": (
        at(lambda x: ops.ReduceMean(ops.Slice(x, ints(0), ints(-1), ints(1)), ints(1))),
        "Slice reads tokens by their places",
    ),
    "every second is read": (
        at(lambda x: ops.Slice(x, ints(0), ints(9), ints(1), ints(2))),
        "Slice reads tokens by their places",
    ),
    "they are split": (at(first_part), "Split reads tokens by their places"),
    "they become a map": (
        at(lambda x: ops.Reshape(x, ints(0, 3, 3, WIDTH))),
        "Reshape reads tokens by their places",
    ),
    "neighbours are mixed": (
        at(lambda x: ops.Conv(ops.Transpose(x, perm=TURNED), const(np.ones((1, WIDTH, 3))))),
        "Conv reads tokens by their places",
    ),
    "a layer has weights for each": (
        at(lambda x: ops.MatMul(ops.Transpose(x, perm=TURNED), const(np.ones((9, 1))))),
        "MatMul adds up over tokens something else of each",
    ),
    "the largest is read": (at(lambda x: ops.ReduceMax(x, ints(1))), "ReduceMax reads tokens"),
    "their number is read": (Encoder(attend=counted).graph(), "Shape reads tokens by their places"),
    "it is that of other tokens": (
        Encoder(attend=sized()).graph(),
        "Shape says of other tokens how many there are",
    ),
    "something else gets as many": (
        at(lambda x: ops.Expand(ops.Gather(x, ints(0), axis=1), ops.Shape(x))),
        "Shape says of other tokens how many there are",
    ),
    "a constant is put beside them": (
        at(lambda x: ops.ReduceMean(ops.Concat(x, zeros(x, 9, 1), axis=2), ints(1))),
        "Concat reads something else for each token",
    ),
    "a constant has more channels": (
        at(lambda x: ops.ReduceMean(ops.Add(ops.ReduceMean(x, ints(2)), zeros(x, 9, 3)), ints(1))),
        "Add reads something else for each token",
    ),
    "what was before is added": (
        Encoder(told=skipping()).graph(),
        "Add reads tokens that are merged and others that are merged further",
    ),
    "each block adds their places": (
        Encoder(told=lambda x: ops.Add(x, const(np.arange(9).reshape(-1, 1)))).graph(),
        "Add reads something else for each token",
    ),
    "a mask": (Encoder(attend=biased(MASK)).graph(), "Add reads something else for each token"),
    "a bias for pairs": (Encoder(attend=biased(PAIRS)).graph(), "Add reads something else"),
    "one node with a mask": (Encoder(attend=fused(const(MASK))).graph(), "Attention has a mask"),
    "one node that hides what is to come": (
        Encoder(attend=behind(fused(), fused(is_causal=1))).graph(),
        "Attention reads tokens by their places",
    ),
    "weights that are squared": (
        Encoder(attend=reweighed(lambda w: ops.Mul(w, w))).graph(),
        "MatMul adds up over tokens, but not as attention does",
    ),
    "weights that are more": (
        Encoder(attend=reweighed(lambda w: ops.Add(w, const(0.1)))).graph(),
        "MatMul adds up over tokens, but not as attention does",
    ),
    "weights that divide": (
        Encoder(attend=reweighed(lambda w: ops.Div(const(1), w))).graph(),
        "MatMul adds up over tokens, but not as attention does",
    ),
    "weights that are added up": (
        Encoder(attend=reweighed(lambda w: ops.Div(w, ops.ReduceSum(w, ints(-1))))).graph(),
        "ReduceSum reads tokens that are weighed already",
    ),
    "weights that are mixed": (
        Encoder(attend=reweighed(lambda w: ops.MatMul(w, w))).graph(),
        "MatMul adds up over tokens, but not as attention does",
    ),
    "weights that are weighed again": (
        Encoder(attend=behind(split, reweighed(lambda w: ops.Softmax(w, axis=-1)))).graph(),
        "Softmax reads tokens that are weighed already",
    ),
    "another attention": (
        Encoder(attend=behind(split, linear)).graph(),
        "MatMul adds up over tokens, but not as attention does",
    ),
    "two encoders": (beside(Encoder().graph()), "Add adds up other tokens than those behind it"),
    "an open number of tokens": (Encoder(open=True).graph(), "no attention of tokens of a known"),
    "examples of which it is not known which axis they are": (
        Encoder(batch=2).graph(),
        "no attention of tokens of a known number",
    ),
    "an old operator set": (replace(Encoder().graph(), opset={"": 12}), "an operator set below 13"),
    "none to be merged": (Encoder(2).graph(), "no tokens are to be merged"),
    "a narrow network": (Encoder(60, layers=1).graph(), "more multiply-adds than it saves"),
}


@pytest.mark.parametrize(("graph", "why"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(graph: Graph, why: str) -> None:
    pass_ = MergeTokens(per_block=1)
    assert check_on(pass_, graph) is graph
    (said,) = pass_.explain(graph)
    assert why in said


def test_nothing_is_said_where_tokens_are_merged() -> None:
    assert not list(MergeTokens(per_block=1).explain(Encoder().graph()))


@pytest.mark.parametrize("pass_", [MergeTokens(share=0), MergeTokens(share=0.01)], ids=str)
def test_no_tokens_to_be_merged(pass_: MergeTokens) -> None:
    graph = Encoder().graph()
    assert pass_(graph) is graph
