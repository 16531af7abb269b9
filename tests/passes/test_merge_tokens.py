"""merge-tokens: what the paper says, what is left alone, the conformance kit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.errors import BadPipeline
from redir.ir import Graph, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, Dim
from redir.passes import MergeTokens
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import runner
from redir.testing import check_on, check_pass
from tests import encoders
from tests.encoders import WIDTH, Encoder
from tests.helpers import const, ints

LAYOUTS = {
    attend.__name__: attend
    for attend in (
        encoders.split,
        encoders.guarded,
        encoders.written,
        encoders.tokens_first,
        encoders.fused,
        encoders.flat,
    )
}
every_layout = pytest.mark.parametrize("attend", LAYOUTS.values(), ids=LAYOUTS)


def fed(encoder: Encoder, examples: int = 2, seed: int = 0) -> Array:
    shape = examples, encoder.tokens, WIDTH
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def sizes(graph: Graph) -> list[Value]:
    """The sizes of which a graph takes the logarithm."""
    return [node.inputs[0] for node in graph.nodes if node.op == ops.Log]


@every_layout
@pytest.mark.parametrize("pools", [False, True])
def test_outputs_are_those_of_the_paper(attend: encoders.Attend, *, pools: bool) -> None:
    encoder = Encoder(attend=attend, pools=pools)
    after, x = check_on(MergeTokens(per_block=2), encoder.graph()), fed(encoder)
    expected = [encoder.merged(each, 2, 2, 2) for each in x]
    np.testing.assert_allclose(evaluate(after, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


@given(st.integers(6, 12), st.integers(0, 3), st.integers(1, 2), st.integers(0, 99))
def test_any_number_of_tokens_and_of_places(n: int, places: int, r: int, seed: int) -> None:
    encoder = Encoder(n, places, layers=2, pools=True, seed=seed)
    x = fed(encoder, seed=seed)
    after = MergeTokens(per_block=r)(encoder.graph())
    merged = [min(r, (n - places) // 2), min(r, (n - places - r) // 2)]
    expected = [encoder.merged(each, *merged) for each in x]
    np.testing.assert_allclose(evaluate(after, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


@given(st.integers(5, 12), st.integers(1, 3), st.integers(1, 9))
def test_sizes_add_up_to_the_tokens_and_the_first_stay_alone(n: int, places: int, r: int) -> None:
    encoder = Encoder(n, places, pools=True)
    after = MergeTokens(per_block=r)(encoder.graph())
    found = {str(i): v for i, v in enumerate(sizes(after))}
    for held in evaluate(replace(after, outputs=found), {"x": fed(encoder)}).values():
        assert (held.sum(1) == n).all()
        assert (held[:, :places] == 1).all()


@every_layout
@pytest.mark.parametrize("batch", ["batch", 1])
def test_onnxruntime_gives_the_same(attend: encoders.Attend, batch: str | int) -> None:
    encoder = Encoder(attend=attend, pools=True, batch=batch)
    after = MergeTokens(per_block=2)(encoder.graph())
    x = fed(encoder, 1 if batch == 1 else 3)
    (y,) = runner(after)({"x": x}).values()
    np.testing.assert_allclose(y, evaluate(after, {"x": x})["y"], rtol=1e-4, atol=1e-5)


def test_numbers_that_are_merged_are_as_even_as_can_be() -> None:
    encoder = Encoder(12)
    after = MergeTokens(share=0.4)(encoder.graph())  # 4.4 of 11 tokens, so 1, 2 and 1
    x = fed(encoder)
    expected = [encoder.merged(each, 1, 2, 1) for each in x]
    np.testing.assert_allclose(evaluate(after, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def test_a_block_in_which_none_is_merged_is_as_it_was() -> None:
    encoder = Encoder(12)
    after = MergeTokens(share=0.1)(encoder.graph())  # 1.1 of 11 tokens, so 0, 1 and 0
    x = fed(encoder)
    expected = [encoder.merged(each, 0, 1, 0) for each in x]
    np.testing.assert_allclose(evaluate(after, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def test_a_share_of_half_is_what_one_gets() -> None:
    graph = Encoder().graph()
    assert str(MergeTokens()(graph)) == str(MergeTokens(share=0.5)(graph))


def test_keys_that_are_zero_are_alike_none() -> None:
    encoder = Encoder()
    for held in encoder.weights:
        held["k"] *= 0
    after = MergeTokens(per_block=2)(encoder.graph())
    assert np.isfinite(evaluate(after, {"x": fed(encoder)})["y"]).all()


def test_old_operator_sets() -> None:
    encoder, spec = Encoder(), "merge-tokens{per_block=2}"
    graph = replace(encoder.graph(), opset={"": 17})
    after = Pipeline.parse(spec)(graph)
    x = fed(encoder)
    expected = [encoder.merged(each, 2, 2, 2) for each in x]
    np.testing.assert_allclose(runner(after)({"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def turned(x: Value) -> Value:
    return ops.Transpose(x, perm=(0, 2, 1))


def everywhere(x: Value) -> Value:
    """A mean over tokens, in each way to write one."""
    first = ops.ReduceMean(x, ints(-2), keepdims=1)
    second = ops.GlobalAveragePool(turned(x))
    third = ops.Mul(ops.ReduceSum(x, ints(1), keepdims=0), const(1 / 9))
    parts = [ops.Reshape(y, ints(0, WIDTH)) for y in (first, second, third)]
    return ops.Concat(*parts, axis=1)


def test_means_over_all_tokens() -> None:
    encoder = Encoder(places=0, pools=True)
    after, x = check_on(MergeTokens(per_block=2), encoder.graph(everywhere)), fed(encoder)
    expected = [np.tile(encoder.merged(each, 2, 2, 2), 3) for each in x]
    np.testing.assert_allclose(evaluate(after, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def probed(x: Value) -> Value:
    """A constant that attends to all tokens."""
    scores = ops.MatMul(x, const(np.arange(WIDTH).reshape(-1, 1) % 3 - 1))
    return ops.MatMul(turned(x), ops.Softmax(scores, axis=1))


def test_what_attends_to_tokens_at_the_end_counts_them_by_their_sizes() -> None:
    encoder = Encoder(places=0)
    after = MergeTokens(per_block=2)(encoder.graph(probed))
    assert len(sizes(after)) == encoder.layers  # of which the first block attends to all


def test_all_tokens_up_to_the_last_that_is_read_by_its_place_stay() -> None:
    graph = Encoder(12).graph(lambda x: ops.Slice(x, ints(2), ints(4), ints(1)))
    after = MergeTokens(per_block=2)(graph)
    found = {str(i): v for i, v in enumerate(sizes(after))}
    for held in evaluate(replace(after, outputs=found), {"x": fed(Encoder(12))}).values():
        assert (held[:, :4] == 1).all()


@st.composite
def drawn(draw: st.DrawFn) -> Graph:
    """Encoders of all layouts."""
    attend = draw(st.sampled_from(list(LAYOUTS.values())))
    layers, pools, seed = draw(st.integers(1, 3)), draw(st.booleans()), draw(st.integers(0, 9))
    tokens, places = draw(st.integers(6, 12)), draw(st.integers(1, 2))
    batch: Dim = "batch" if draw(st.booleans()) else 1
    return Encoder(tokens, places, layers, pools, batch, attend, seed=seed).graph()


@pytest.mark.parametrize("pass_", [MergeTokens(), MergeTokens(per_block=1)], ids=str)
def test_conformance(pass_: MergeTokens) -> None:
    check_pass(pass_, drawn(), max_examples=10)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("share=1", "share must be at least 0 and below 1"),
        ("share=-0.1", "share must be at least 0 and below 1"),
        ("per_block=-1", "per_block must be 0 or more"),
        ("share=0.3,per_block=2", "two ways to say how many"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: str, why: str) -> None:
    with pytest.raises(BadPipeline, match=why):
        Pipeline.parse(f"merge-tokens{{{options}}}")
