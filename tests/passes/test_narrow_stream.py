"""narrow-stream: what stays the same, what goes, the conformance kit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from redir import ops
from redir.errors import BadPipeline, Unchanged
from redir.ir import Graph, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.passes import CanonicalNorms, NarrowStream
from redir.passes.narrow_stream import means, scales
from redir.passes.narrow_stream.choosing import bases
from redir.passes.narrow_stream.narrowing import Narrowing
from redir.passes.narrow_stream.spaces import Scale, Space, spaces
from redir.testing import check_on, check_pass
from tests.helpers import const, one_of_three, operators
from tests.streams import IDS, PARTS, Stream, layer_norm
from tests.turning import LEFT, MODELS, decoder, halved, many, of, read, rms, tied

TEXTS = [{"ids": np.random.default_rng(seed).integers(0, 10, (8, 6))} for seed in range(4)]


def feeds(graph: Graph) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    if "ids" in graph.inputs:
        return {"ids": rng.integers(0, 10, (5, 6))}
    return {"pixels": rng.normal(0, 1, (5, 3, 4, 4)).astype(np.float32)}


def turned(graph: Graph, channels: int | None = None) -> Graph:
    """The graph with its first stream turned, of so many channels or of all."""
    space = next(iter(spaces(graph)))
    plan = Narrowing.of(space, channels or space.width)
    assert isinstance(plan, Narrowing)
    batches = TEXTS if "ids" in graph.inputs else [feeds(graph)]
    return plan.on(bases(plan, batches))


def expect_same(after: Graph, before: Graph) -> None:
    given = feeds(before)
    found, wanted = evaluate(after, given), evaluate(before, given)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, 1e-4, 1e-5)


every_model = pytest.mark.parametrize("graph", MODELS.values(), ids=MODELS)


@every_model
def test_a_stream_that_is_turned_computes_the_same(graph: Graph) -> None:
    after = turned(graph)
    assert after is not graph
    expect_same(after, graph)


@pytest.mark.parametrize("name", one_of_three(MODELS))
def test_channels_go(name: str) -> None:
    graph = MODELS[name]
    after = check_on(NarrowStream(width=0.5, align=1, statistics="drawn"), graph)
    assert {space.width for space in spaces(after)} == {4}


@every_model
def test_all_channels_are_all_there_is(graph: Graph) -> None:
    assert NarrowStream(width=1.0, align=1)(graph) is graph


def test_half_precision() -> None:
    graph = halved(np.float16)
    given = feeds(graph)
    found, wanted = (evaluate(g, given)["y"] for g in (turned(graph), graph))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, wanted, atol=1e-2)


def test_sums_of_squares_beyond_half_precision() -> None:
    batch = {"ids": np.zeros((2**17, 6), np.int64)}
    (space,) = spaces(halved(np.float16))
    plan = Narrowing.of(space, 5)
    assert isinstance(plan, Narrowing)
    after = plan.on(bases(plan, [batch]))
    assert np.isfinite(evaluate(after, TEXTS[0])["y"]).all()


def within(graph: Graph, rank: int) -> Graph:
    """A graph whose stream has no more than so many dimensions."""
    (space,) = spaces(graph)
    q = np.linalg.qr(np.random.default_rng(3).normal(0, 1, (8, 8)))[0][:, :rank]
    plan = Narrowing.of(space, 8)
    assert isinstance(plan, Narrowing)
    ports = [(v, a) for v, axes in plan.space.constants.items() for a in axes]
    return plan.on(dict.fromkeys(ports, q @ q.T))


def test_a_last_layer_that_is_tied_has_a_matrix_before_it() -> None:
    after = check_on(NarrowStream(width=0.5, align=1, statistics="drawn"), tied())
    held = [t.array.shape for n in after.nodes if (t := ops.tensor_of(n.outputs[0])) is not None]
    assert (4, 4) in held
    assert (10, 4) in held
    assert operators(after).count("MatMul") == operators(tied()).count("MatMul") + 1


def test_a_last_layer_takes_the_bias_of_the_norm_before_it() -> None:
    after = check_on(NarrowStream(width=0.5, align=1, statistics="drawn"), decoder(many))
    held = [t.array.shape for n in after.nodes if (t := ops.tensor_of(n.outputs[0])) is not None]
    assert (4, 20) in held
    assert (20,) in held
    assert "LayerNormalization" not in operators(after)


@pytest.mark.parametrize("other", ["a stream", "hidden channels"])
def test_what_shares_the_numbers_of_a_scale_keeps_its_channels(other: str) -> None:
    stream, ones = Stream(rms), const(np.ones(8))
    y = stream.norm(stream.embedded(), ones)
    made = stream.embedded() if other == "a stream" else ops.Relu(stream.linear(y, 8))
    z = stream.linear(stream.norm(made, ones), 3)
    graph = Graph({"ids": IDS}, {"y": stream.linear(y, 3), "z": z}, opset={"": 23})
    first, *others = spaces(turned(graph, 5))
    assert [first.width, *(space.width for space in others)] == [5, 8]
    expect_same(turned(graph), graph)


def test_widths_are_multiples() -> None:
    graph = Stream(rms, width=24).graph()
    widths = {
        width: next(iter(spaces(NarrowStream(width)(graph)))).width for width in (0.1, 0.4, 0.6)
    }
    assert widths == {0.1: 8, 0.4: 8, 0.6: 16}


@pytest.mark.parametrize("name", ["one node", "divided", "biases", "rotary", "images"])
def test_a_stream_in_a_subspace_loses_nothing(name: str) -> None:
    graph = within(MODELS[name], 5)
    after = turned(graph, 5)
    assert {space.width for space in spaces(after)} == {5}
    expect_same(after, graph)


def test_what_stays_says_what_goes() -> None:
    """A channel that is twice another is said by it, though it is turned away."""
    graph = MODELS["one node"]
    given = feeds(graph)
    before, after = (evaluate(g, given)["logits"] for g in (graph, turned(graph, 7)))
    (space,) = spaces(graph)
    plan = Narrowing.of(space, 7)
    assert isinstance(plan, Narrowing)
    cut = evaluate(plan.plain(), given)["logits"]
    assert np.square(after - before).sum() < 0.5 * np.square(cut - before).sum()


@pytest.mark.parametrize(("graph", "why"), LEFT.values(), ids=LEFT)
def test_left_alone(graph: Graph, why: str) -> None:
    step = NarrowStream(align=7)
    assert step(graph) is graph
    assert any(why in line for line in step.explain(graph))


def test_a_model_that_cannot_be_run_stays() -> None:
    def mystery(stream: Stream, x: Value) -> Value:
        y = read(stream, x)
        y = ops.opaque("Mystery", "custom", 1, [y.type])(y)
        return read(stream, ops.Add(x, stream.back(y)))

    graph = of(mystery)
    with pytest.warns(Unchanged, match="it cannot be run"):
        assert NarrowStream(align=1)(graph) is graph


def test_a_model_that_makes_no_finite_squares_stays() -> None:
    def far(stream: Stream, x: Value) -> Value:
        y = ops.Mul(stream.norm(x, const(np.ones(8))), const(1e30))
        return stream.linear(y, 3)

    graph = of(far)
    with pytest.warns(Unchanged, match="is not finite"):
        assert NarrowStream(align=1, statistics="drawn")(graph) is graph


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"width": 0}, "width must be above 0"),
        ({"width": 1.5}, "width must be above 0"),
        ({"align": 0}, "align is 1 or more"),
        ({"seed": -1}, "seed is 0 or more"),
        ({"examples": -1}, "examples is 0 or more"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, float], why: str) -> None:
    with pytest.raises(BadPipeline, match=why):
        NarrowStream(**options)  # type: ignore[arg-type]


# The conformance kit, and wrong versions


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Small transformers, with norms of all kinds."""
    norm = draw(st.sampled_from([layer_norm, *PARTS.values()]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    width, bias = draw(st.sampled_from([4, 6, 8])), draw(st.booleans())
    dead, opset = draw(st.sampled_from([(), (1,), (0, 2)])), 23
    graph = Stream(norm, width, dead, bias=bias, opset=opset, rng=rng).graph()
    return CanonicalNorms()(graph) if draw(st.booleans()) else graph


def test_keeps_its_promises() -> None:
    step = NarrowStream(width=0.6, align=2, statistics="drawn")
    check_pass(step, networks(), settings().max_examples // 2)


@settings(max_examples=20)
@given(networks())
def test_all_channels_turned_compute_the_same(graph: Graph) -> None:
    space = next(iter(spaces(graph)))
    assume(isinstance(Narrowing.of(space, space.width), Narrowing))
    expect_same(turned(graph), graph)


def check_all() -> None:
    for graph in (*MODELS.values(), *(graph for graph, _ in LEFT.values())):
        for space in spaces(graph):
            if isinstance(plan := Narrowing.of(space, space.width), Narrowing):
                expect_same(plan.on(bases(plan, [feeds(graph)])), graph)


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "streams have no obstacle": lambda m: m.setattr(Space, "_refuse", lambda *_: []),
    "scales are the same for all channels": lambda m: m.setattr(Scale, "is_even", True),
    "scales are forgotten": lambda m: m.setattr(scales, "_scaled", lambda node, *_: node.outputs),
    "means are not minded": lambda m: m.setattr(means, "_is_centred", lambda _: True),
}


def test_all_are_the_same() -> None:
    check_all()


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_version_is_refuted(
    wrong: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(monkeypatch)
    with pytest.raises(AssertionError):
        check_all()
