"""merge with a tolerance: what is tied, by how much it moves, and that all of it merges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from redir import ops
from redir.channels.coupling import Coupling
from redir.check.guarantees import SAME_OUTPUTS, constants
from redir.check.outputs import verify
from redir.errors import BadPipeline
from redir.frontends.onnx import load
from redir.ir import Graph, Port, Value
from redir.ir.tensor import Array, Tensor
from redir.passes.merge import Merge, similarity
from redir.passes.merge.similarity import SCHEDULES, Linkage, Schedule, tied
from redir.pipeline import Pipeline
from redir.testing import check_on, check_pass, graphs
from tests.helpers import const, one_of_three, placeholder

FLOAT = np.dtype(np.float32)
X = placeholder("n", 2)


def of(y: Value) -> Graph:
    return Graph({"x": X}, {"y": y})


def perceptron(rows: ArrayLike, columns: ArrayLike, bias: ArrayLike | None = None) -> Graph:
    """``rows`` make hidden channels, which ``columns`` read: (hidden, 2) and (hidden, out)."""
    biases = () if bias is None else (const(bias),)
    hidden = ops.Relu(ops.Gemm(X, const(rows), *biases, transB=1))
    return of(ops.Gemm(hidden, const(columns)))


def held(graph: Graph) -> list[Array]:
    return [tensor.array for tensor in constants(graph)]


NEAR = [[1.0, 0.0], [1.0, 0.1], [0.0, 5.0]]


def test_channels_nearer_than_the_tolerance_become_one() -> None:
    after = check_on(Merge(tolerance=0.2), perceptron(NEAR, [[1], [1], [1]]))
    assert [a.shape for a in held(after)] == [(2, 2), (2, 1)]
    np.testing.assert_allclose(held(after)[0], [[1.0, 0.05], [0.0, 5.0]], rtol=1e-6)
    np.testing.assert_array_equal(held(after)[1], [[2], [1]])


def test_a_channel_counts_by_the_squares_of_what_reads_it() -> None:
    rows = held(tied(perceptron(NEAR, [[3], [1], [7]]), 0.2))[0]
    np.testing.assert_allclose(rows[0], [1, 0.01], rtol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[2], [0, 5])


def test_channels_that_nothing_reads_count_alike() -> None:
    rows = held(tied(perceptron(NEAR, [[0], [0], [7]]), 0.2))[0]
    np.testing.assert_allclose(rows[0], [1, 0.05], rtol=1e-6)


@pytest.mark.parametrize(
    ("tolerance", "bias"),
    [(0.05, None), (0.2, [0, 1, 0])],
    ids=["the weights", "the biases"],
)
def test_channels_farther_apart_stay_because_of(tolerance: float, bias: ArrayLike | None) -> None:
    before = perceptron(NEAR, [[1], [1], [1]], bias)
    assert Merge(tolerance=tolerance).run(before) is before


def test_what_is_pinned_is_not_tied() -> None:
    before = of(ops.Gemm(X, const(NEAR), transB=1))
    assert Merge(tolerance=0.2).run(before) is before


def masked() -> Graph:
    """Near channels, of which a mask lets one through: no tie makes them equal."""
    hidden = ops.Gemm(X, const([[1.0, 0.0], [1.0, 0.1]]), transB=1)
    mask = ops.Const(value=Tensor(np.array([True, False])))
    return of(ops.Gemm(ops.Where(mask, hidden, const(0)), const([[1], [1]])))


def test_what_cannot_merge_is_not_tied() -> None:
    before = masked()
    assert Merge(tolerance=0.5).run(before) is before


def test_producers_of_a_residual_stream_are_compared_together() -> None:
    def stream(second: ArrayLike) -> Graph:
        a = ops.Gemm(X, const([[1.0, 0.0], [1.0, 0.1]]), transB=1)
        b = ops.Gemm(ops.Relu(X), const(second), transB=1)
        return of(ops.Gemm(ops.Relu(ops.Add(a, b)), const([[1], [1]])))

    near, far = stream([[2.0, 2.0], [2.0, 2.1]]), stream([[2.0, 2.0], [-2.0, 2.0]])
    assert [a.shape for a in held(Merge(tolerance=0.2).run(near))] == [(1, 2), (1, 2), (1, 1)]
    assert Merge(tolerance=0.2).run(far) is far


LINE = [[1.0, 0.0], [1.0, 0.15], [1.0, 0.3]]  # each near the next, the ends apart


@pytest.mark.parametrize(("linkage", "left"), [("complete", 2), ("average", 2), ("single", 1)])
def test_linkage_says_how_far_clusters_are(linkage: Linkage, left: int) -> None:
    before = perceptron(LINE, [[1.0], [1.0], [1.0]])
    assert len(held(Merge(tolerance=0.2, linkage=linkage).run(before))[0]) == left


@pytest.mark.parametrize(
    ("schedule", "widths"),
    [
        ("constant", [1, 1, 1]),
        ("ascending", [2, 2, 1]),
        ("descending", [1, 2, 2]),
        ("block", [2, 2, 1]),
    ],
)
def test_the_schedule_sets_the_tolerance_by_depth(schedule: Schedule, widths: list[int]) -> None:
    rows, value = [[1.0, 0.0], [1.0, 0.18]], X
    for _ in range(4):
        value = ops.Relu(ops.Gemm(value, const(rows), transB=1))
    after = Merge(tolerance=0.2, schedule=schedule).run(of(value))
    assert [len(a) for a in held(after)][:3] == widths


def test_depth_runs_from_the_first_family_to_the_last() -> None:
    assert [[f(d) for d in (0, 0.3, 0.6, 1)] for f in SCHEDULES.values()] == [
        [1, 1, 1, 1],
        [0.25, 0.5, 0.75, 1],
        [0, 0.3, 0.6, 1],
        [1, 0.7, 0.4, 0],
    ]


@pytest.mark.parametrize("tolerance", [-0.1, float("inf"), float("nan")])
def test_a_tolerance_is_a_distance(tolerance: float) -> None:
    with pytest.raises(BadPipeline, match="merge: tolerance must be at least 0"):
        Merge(tolerance=tolerance)


def test_the_promise_of_same_outputs_hangs_on_the_tolerance() -> None:
    assert SAME_OUTPUTS in Merge().guarantees
    assert SAME_OUTPUTS not in Merge(tolerance=0.1).guarantees
    assert str(Pipeline.parse("merge{tolerance=0.1,schedule=block}")) == (
        "merge{tolerance=0.1,schedule=block}"
    )


# What holds of every graph


def moved(before: Graph, after: Graph) -> int:
    return sum(not np.array_equal(a, b) for a, b in zip(held(before), held(after), strict=True))


def stay_tied(graph: Graph, tolerance: float) -> None:
    """Merging what is tied changes no output, and leaves nothing tied that is not merged."""
    level = tied(graph, tolerance)
    after = Merge(tolerance=tolerance).run(graph)
    assert SAME_OUTPUTS.refute(level, after) is None
    if level is not graph:
        assert sum(a.size for a in held(after)) < sum(a.size for a in held(level))


@settings(max_examples=20)
@given(graphs(), st.sampled_from([0.1, 0.5, 1.0, 2.0]))
def test_all_that_is_tied_is_merged_exactly(graph: Graph, tolerance: float) -> None:
    stay_tied(graph, tolerance)


@pytest.mark.parametrize("linkage", one_of_three(["complete", "average", "single"]))
def test_the_laws_hold(linkage: Linkage) -> None:
    check_pass(Merge(tolerance=0.8, linkage=linkage), max_examples=20)


def test_a_tie_of_what_cannot_merge_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_free(tied_: Coupling) -> list[tuple[list[Port], list[Array]]]:
        families = [family for family in tied_.families() if similarity._making(tied_, family)]
        return [(family, similarity._alike(tied_, family)) for family in families]

    monkeypatch.setattr(similarity, "_mergeable", all_free)
    with pytest.raises(AssertionError):
        stay_tied(masked(), 0.5)


def test_a_real_model(shared: Path) -> None:
    clean = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm")
    graph = clean.run(load(shared / "models" / "cifar10-resnet20-bn.onnx"))
    level, after = tied(graph, 0.6), Merge(tolerance=0.6).run(graph)
    assert moved(graph, level) > 0
    assert sum(a.size for a in held(after)) < sum(a.size for a in held(graph))
    assert verify(level, after, samples=1).verdict == "pass"
