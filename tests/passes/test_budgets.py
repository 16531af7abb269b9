"""hash and palettize under a target: one budget for all layers, spent where outputs feel least."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from redir import ops
from redir.cost import multiplications, nbytes
from redir.errors import BadPipeline, Broken
from redir.ir import Graph, Value, evaluate
from redir.ir.tensor import Array
from redir.layers.output_error import relative_error
from redir.layers.palette import split, unpacked
from redir.ops import tensor_of
from redir.passes import hash as hashing
from redir.passes.hash import Hash
from redir.passes.hash.cells import hashed
from redir.passes.palettize import Palettize
from redir.pipeline import Pass, Pipeline, Place
from redir.testing import check_pass, graphs
from tests.helpers import const, one_of_three, placeholder

RNG = np.random.default_rng(0)
IMAGE = placeholder("n", 4, 6, 6)
STEPS: dict[str, Callable[[float], Pass]] = {
    "bytes": lambda share: Palettize(bytes=share, examples=4),
    "multiplications": lambda share: Hash(multiplications=share, examples=4),
}
ALIKE: dict[str, Callable[[float], Pass]] = {
    "bytes": lambda error: Palettize(error=error),
    "multiplications": lambda error: Hash(error=error, granularity="input"),
}
# Those that take longest, whose law is that of the others.
QUICK = ["bytes", pytest.param("multiplications", marks=pytest.mark.nightly)]
COUNTS: dict[str, Callable[[Graph], float]] = {
    "bytes": nbytes,
    "multiplications": lambda graph: sum(multiplications(graph)),
}


def conv(x: Value, outputs: int, size: int, scale: float = 1.0, group: int = 1) -> Value:
    inputs = (x.type.size(1) or 0) // group
    weights = const(scale * RNG.normal(size=(outputs, inputs, size, size)))
    return ops.Conv(x, weights, pads=(size // 2,) * 4, group=group)


def network() -> Graph:
    """A loud branch, a quiet one and a depthwise one, and their sum."""
    stem = ops.Relu(conv(IMAGE, 32, 3))
    loud, quiet = conv(stem, 32, 3), conv(stem, 32, 3, 1e-2)
    return Graph({"x": IMAGE}, {"y": ops.Add(ops.Add(loud, quiet), conv(stem, 32, 3, group=32))})


GRAPH = network()


def weights(graph: Graph) -> list[Array]:
    """Those of the convolutions, in order."""
    held = (tensor_of(n.inputs[1]) for n in unpacked(graph).nodes if n.op == ops.Conv)
    return [tensor.array for tensor in held if tensor is not None]


@pytest.mark.parametrize("target", STEPS)
@pytest.mark.parametrize("share", one_of_three([0.3, 0.45, 0.7]))
def test_a_share_is_left(target: str, share: float) -> None:
    after = STEPS[target](share).run(GRAPH)
    left = COUNTS[target](after) / COUNTS[target](GRAPH)
    assert 0.7 * share < left <= share  # a few layers, in steps


@pytest.mark.parametrize("target", STEPS)
def test_a_layer_that_outputs_feel_less_gets_fewer_values(target: str) -> None:
    after = STEPS[target](0.25).run(GRAPH)
    _, loud, quiet, _ = weights(after)
    assert split(quiet)[0].size < split(loud)[0].size


@pytest.mark.parametrize("target", QUICK)
def test_outputs_move_less_than_by_one_error_for_all_layers(target: str) -> None:
    budget = STEPS[target](0.3).run(GRAPH)
    tried = (ALIKE[target](float(error)).run(GRAPH) for error in np.geomspace(0.02, 0.6, 12))
    most = COUNTS[target](budget)
    fits = next(graph for graph in tried if COUNTS[target](graph) <= most)
    x = {"x": RNG.normal(size=(8, 4, 6, 6)).astype(np.float32)}
    plain, moved, other = (evaluated(g, x) for g in (GRAPH, budget, fits))
    assert relative_error(plain, moved) < relative_error(plain, other)


def evaluated(graph: Graph, feeds: dict[str, Array]) -> Array:
    found: Array = evaluate(graph, feeds)["y"]
    return found


@pytest.mark.parametrize("target", STEPS)
def test_all_stays_where_all_may_be_left(target: str) -> None:
    assert all(map(np.array_equal, weights(STEPS[target](1.0).run(GRAPH)), weights(GRAPH)))


@pytest.mark.parametrize("target", QUICK)
def test_the_share_is_of_what_the_run_began_with(target: str) -> None:
    wider = ops.Add(GRAPH.outputs["y"], conv(IMAGE, 32, 3))
    original = Graph({"x": IMAGE}, {"y": wider})
    after = STEPS[target](0.4).run_at(GRAPH, Place(original))
    whole = COUNTS[target](original)
    assert 0.28 * whole < COUNTS[target](after) <= 0.4 * whole


@st.composite
def layers(draw: st.DrawFn) -> Graph:
    """Two layers, one of which may be weak, and one weight perhaps for both."""
    rng, scale = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from([1, 1e-2]))
    x, first, other = placeholder(2, 40), rng.normal(size=(40, 40)), rng.normal(size=(40, 40))
    first[rng.random(first.shape) < 0.1] = 0
    held = [const(first), const(scale * other)]
    second = held[draw(st.integers(0, 1))]
    return Graph({"x": x}, {"y": ops.MatMul(ops.Relu(ops.Gemm(x, held[0])), second)})


@pytest.mark.parametrize("target", STEPS)
def test_promises_are_kept(target: str) -> None:
    check_pass(STEPS[target](0.5), layers(), settings().max_examples // 5)


@pytest.mark.parametrize("target", STEPS)
def test_a_target_reads_back_and_is_asked(target: str) -> None:
    step = STEPS[target](0.5)
    assert Pipeline.parse(str(step)).passes == (step,)
    assert step.asked == {target: 0.5}


@pytest.mark.parametrize(
    "spec",
    [
        "hash{multiplications=1.1}",
        "hash{multiplications=-0.1}",
        "hash{multiplications=nan}",
        "hash{examples=-1}",
        "hash{statistics=nowhere}",
        "palettize{bytes=1.1}",
        "palettize{bytes=-0.1}",
        "palettize{bytes=nan}",
        "palettize{examples=-1}",
        "palettize{statistics=nowhere}",
    ],
)
def test_other_options_are_refused(spec: str) -> None:
    with pytest.raises(BadPipeline):
        Pipeline.parse(spec)


def test_a_target_goes_before_an_error() -> None:
    alone, both = (
        Hash(error=error, multiplications=0.4, examples=4).run(GRAPH) for error in (None, 0.005)
    )
    assert all(map(np.array_equal, weights(alone), weights(both)))


def test_more_multiplications_are_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    x = placeholder("n", 4)
    graph = Graph({"x": x}, {"y": ops.MatMul(x, const(np.ones((4, 30)) * 3))})
    monkeypatch.setattr(hashing, "with_others", lambda *_: spread(x))
    with pytest.raises(Broken, match=r"multiplications|apart"):
        Hash(multiplications=0.5, examples=4)(graph, check=True)


def spread(x: Value) -> Graph:
    return Graph({"x": x}, {"y": ops.MatMul(x, const(np.arange(1, 121).reshape(4, 30)))})


# The weights that read each input


INPUTS: dict[str, tuple[Callable[[], Value], Callable[[Array], list[Array]]]] = {
    "conv": (lambda: conv(IMAGE, 20, 3), lambda w: list(w.swapaxes(0, 1))),
    "grouped conv": (
        lambda: conv(IMAGE, 20, 3, group=2),
        lambda w: [w[10 * g : 10 * g + 10, c] for g in range(2) for c in range(2)],
    ),
    "depthwise conv": (lambda: conv(IMAGE, 4, 3, group=4), lambda w: list(w[:, 0])),
    "conv transpose": (
        lambda: ops.ConvTranspose(IMAGE, const(RNG.normal(size=(4, 10, 3, 3))), group=2),
        list,
    ),
    "gemm": (lambda: ops.Gemm(placeholder("n", 4), const(RNG.normal(size=(4, 30)))), list),
    "gemm, turned": (
        lambda: ops.Gemm(placeholder("n", 4), const(RNG.normal(size=(30, 4))), transB=1),
        lambda w: list(w.T),
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_what_reads_an_input_is_hashed_on_its_own(name: str) -> None:
    made, parts = INPUTS[name]
    y = made()
    assert y.node is not None
    before = Graph({"x": y.node.inputs[0]}, {"y": y})
    after = Hash(1.0, granularity="input")(before, check=True)
    old, new = (tensor_of(g.nodes[-1].inputs[1]) for g in (before, after))
    assert old is not None
    assert new is not None
    for was, now in zip(parts(old.array), parts(new.array), strict=True):
        assert np.array_equal(now, hashed(was, 1.0))
    assert sum(multiplications(after)) < sum(multiplications(before))


def test_promises_are_kept_by_input() -> None:
    steps = ("conv", "gemm", "matmul", "shared_weight", "depthwise", "grouped", "conv_transpose")
    check_pass(Hash(0.5, granularity="input"), graphs(*steps))
