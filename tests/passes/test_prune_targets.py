"""prune under a target: what is asked is left, and what must stay does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redir import ops
from redir.check.guarantees import constants
from redir.cost import macs, parameters
from redir.errors import BadPipeline, Skipped
from redir.importance import Evidence, Family
from redir.ir import Graph, Source, Value
from redir.ir.tensor import Array
from redir.passes import prune
from redir.passes.prune import Prune
from redir.pipeline import Pipeline, Place
from redir.testing import check_pass, graphs
from tests.helpers import const, one_of_three, placeholder

RNG = np.random.default_rng(0)
X = placeholder("n", 4, 6, 6)
COUNTS: dict[str, Callable[[Graph], int]] = {"macs": macs, "params": parameters}


def conv(x: Value, outputs: int, kernel: int = 1) -> Value:
    weight = const(RNG.normal(size=(outputs, x.type.size(1) or 0, kernel, kernel)))
    return ops.Conv(x, weight, pads=(kernel // 2,) * 4)


def chain(*widths: int) -> Graph:
    """Convolutions of some widths, each behind a ReLU but the first."""
    x = X
    for width in widths:
        x = ops.Relu(conv(x, width, 3))
    return Graph({"x": X}, {"y": conv(x, 3)})


def widths(graph: Graph) -> list[int]:
    """The outputs of each convolution but the last."""
    layers = [node for node in graph.nodes if node.op == ops.Conv]
    return [node.outputs[0].type.size(1) or 0 for node in layers[:-1]]


NET = chain(40, 60, 80)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("target", COUNTS)
@pytest.mark.parametrize("share", [0.3, 0.55, 0.9])
def test_a_share_of_the_original_is_left(target: str, share: float, scope: str) -> None:
    after = Pipeline.parse(f"prune{{{target}={share},scope={scope}}}").run(NET)
    left = COUNTS[target](after) / COUNTS[target](NET)
    assert share - 0.04 < left <= share


@given(st.lists(st.integers(30, 60), min_size=1, max_size=3), st.floats(0.1, 0.9))
def test_of_all_channels_the_share_goes(layers: list[int], ratio: float) -> None:
    after = Prune(ratio, criterion="random", scope="global")(chain(*layers))
    kept, whole = sum(widths(after)), sum(layers)
    assert abs(kept - (whole - int(ratio * whole))) <= len(layers)  # each layer keeps a channel


@pytest.mark.nightly
def test_a_share_of_many_channels_is_met_within_a_thousandth() -> None:
    graph = chain(1000, 1200)
    after = Prune(0.3456, criterion="random", scope="global")(graph)
    assert abs(sum(widths(after)) / 2200 - (1 - 0.3456)) <= 1e-3


def test_of_each_family_the_share_goes() -> None:
    assert widths(Prune(0.25)(NET)) == [30, 45, 60]


def test_all_together_what_matters_least_goes() -> None:
    x = ops.Relu(ops.Conv(X, const(np.ones((8, 4, 1, 1)))))
    weight = const(0.01 * np.ones((8, 8, 1, 1)))
    graph = Graph({"x": X}, {"y": conv(ops.Relu(ops.Conv(x, weight)), 2)})
    after = Prune(0.25, scope="global", normalizer="none")(graph)
    assert widths(after) == [8, 4]


def test_families_that_share_a_count_lose_parts_of_themselves() -> None:
    # a channel of the 8 costs seven times as much as one of the 80, and is a tenth of its family
    graph = chain(80, 8)
    assert widths(Prune(macs=0.6, scope="global", normalizer="mean")(graph))[0] == 80
    assert widths(Prune(macs=0.6, scope="global")(graph))[1] == 8


@pytest.mark.parametrize(("name", "own"), [("lamp", "none"), ("dafp", "max")])
def test_how_a_criterion_compares_by_itself_stays_so(name: str, own: Any) -> None:
    step = Prune(macs=0.6, criterion=name, scope="global")
    assert widths(step(NET)) == widths(replace(step, normalizer=own)(NET))


def test_what_passes_behind_save_counts() -> None:
    behind = Place(NET, Pipeline.parse("prune{channel_ratio=0.5}"))
    alone, before = (Prune(macs=0.2).run_at(NET, place) for place in (Place(NET), behind))
    assert macs(before) > macs(alone)
    assert macs(behind.behind.run(before)) <= 0.2 * macs(NET)


def test_the_original_counts_also_behind_other_passes() -> None:
    after = Pipeline.parse("prune{channel_ratio=0.2},prune{macs=0.5}").run(NET)
    assert 0.46 < macs(after) / macs(NET) <= 0.5


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_speed_is_looked_for(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        def ratio(self, before: Graph, after: Graph) -> float:
            return macs(after) / macs(before)

    monkeypatch.setattr(prune, "LATENCY", Clock())
    after = Pipeline.parse(f"prune{{speed=2,scope={scope}}}").run(NET)
    assert 0.46 < macs(after) / macs(NET) <= 0.5


def test_a_target_that_is_met_changes_nothing() -> None:
    assert Prune(macs=1.0)(NET) is NET


def test_so_many_channels_stay() -> None:
    assert widths(Prune(0.9, min_channels=7)(NET)) == [7, 7, 8]
    assert widths(Prune(0.9, min_channels=50)(NET)) == [40, 50, 50]


def test_what_stays_is_a_multiple() -> None:
    assert widths(Prune(0.4, align=8)(NET)) == [24, 40, 48]
    assert widths(Prune(0.5, align=64)(NET)) == [40, 60, 64]


def test_what_comes_back_matters_most() -> None:
    scores = iter([[5.0, 1.0, 2.0, 4.0, 3.0, 0.0]])

    class Given:
        def scores(self, family: Family, evidence: Evidence) -> Array:
            del family, evidence
            return np.array(next(scores))

    weight = np.arange(6).reshape(6, 1, 1, 1) * np.ones((1, 4, 1, 1))
    graph = Graph({"x": X}, {"y": conv(ops.Relu(ops.Conv(X, const(weight))), 2)})
    after = Prune(0.7, Given(), min_channels=4)(graph)
    left = [n.attrs["value"].array[:, 0, 0, 0].tolist() for n in after.nodes if not n.inputs]
    assert left[0] == [0, 2, 3, 4]


def test_parts_that_are_joined_are_each_a_multiple() -> None:
    parts = [ops.Relu(conv(X, width)) for width in (12, 20)]
    graph = Graph({"x": X}, {"y": conv(ops.Concat(*parts, axis=1), 3)})
    after = widths(Prune(0.5, criterion="random", align=4)(graph))
    assert [width % 4 for width in after] == [0, 0]
    assert sum(after) >= 16


def named(x: Value, name: str) -> Value:
    """A value, made by a node of another name."""
    assert x.node is not None
    return replace(x.node, source=Source(name=name)).outputs[0]


def test_layers_of_a_name_stay() -> None:
    first = ops.Relu(named(conv(X, 8), "stem/conv"))
    second = ops.Relu(named(conv(first, 8), "body/conv"))
    graph = Graph(
        {"x": X}, {"y": named(conv(ops.Relu(named(conv(second, 8), "neck/conv")), 2), "z")}
    )
    assert widths(Prune(0.5)(graph)) == [4, 4, 4]
    assert widths(Prune(0.5, ignore="stem/*")(graph)) == [8, 4, 4]
    assert widths(Prune(0.5, ignore="body/*")(graph)) == [8, 8, 4]
    assert Prune(0.5, ignore="*")(graph) is graph
    with pytest.warns(Skipped, match=r"prune: no layer has a name like 'steam/\*'"):
        assert widths(Prune(0.5, ignore="steam/*")(graph)) == [4, 4, 4]


def test_scores_are_taken_anew_in_each_step() -> None:
    seen = list[tuple[int, ...]]()

    class Watching:
        def scores(self, family: Family, evidence: Evidence) -> Array:
            awake = np.abs(family.makers[0].rows).sum(1) > 0
            seen.append((len(family.channels), int(awake.sum())))
            return evidence.rng.random(len(family.channels))

    assert widths(Prune(0.5, Watching(), steps=2)(chain(8))) == [4]
    assert seen == [(8, 8), (6, 6)]


def test_steps_go_as_far_as_one() -> None:
    for steps in (1, 3, 4):
        assert widths(Prune(0.5, steps=steps)(NET)) == [20, 30, 40]
        assert macs(Prune(macs=0.5, steps=steps)(NET)) <= 0.5 * macs(NET)


class Read:
    """A channel matters as strongly as it is read."""

    def scores(self, family: Family, evidence: Evidence) -> Array:
        del evidence
        return np.array([family.total(w.places, np.abs(w.rows).sum(1)) for w in family.readers])


@pytest.mark.parametrize(("steps", "left"), [(1, [7, 8]), (2, [8])])
def test_in_steps_what_read_a_channel_that_is_gone_counts_no_more(
    steps: int, left: list[int]
) -> None:
    first = const(np.array([7, 8]).reshape(2, 1, 1, 1) * np.ones((1, 4, 1, 1)))
    second = const(np.array([[10, 0], [0, 2], [0, 2], [0, 2]])[:, :, None, None])
    hidden = ops.Relu(ops.Conv(ops.Relu(ops.Conv(X, first)), second))
    last = const(np.array([0, 5, 5, 5]).reshape(1, 4, 1, 1))
    graph = Graph({"x": X}, {"y": ops.Conv(hidden, last)})
    after = Prune(0.34, Read(), steps=steps, scope="global", normalizer="none")(graph)
    assert constants(after)[0].array[:, 0, 0, 0].tolist() == left


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("macs=1.5", "macs is above 0 and at most 1"),
        ("macs=-1", "macs is above 0"),
        ("speed=101", "speed is above 0 and at most 100"),
        ("speed=0.5", "speed is times as fast, 1 or more: 0.5"),
        ("macs=0.5,params=0.5", "one target at a time, not macs and params"),
        ("macs=0.5,channel_ratio=0.3", "one target at a time, not macs and channel_ratio"),
        ("steps=0", "steps, min_channels and align are 1 or more"),
        ("align=0", "steps, min_channels and align are 1 or more"),
        ("min_channels=0", "steps, min_channels and align are 1 or more"),
        ("examples=-1", "examples is 0 or more"),
        ("statistics=nowhere", "no source of statistics"),
        ("scope=some", "not one of layer, global"),
        ("reduction=min", "not one of sum, mean, max"),
        ("normalizer=l2", "not one of auto, none, mean, max, sum, standard"),
    ],
)
def test_refuses(spec: str, why: str) -> None:
    with pytest.raises(BadPipeline, match=why):
        Pipeline.parse(f"prune{{{spec}}}")


@pytest.mark.parametrize(
    "spec",
    one_of_three(
        ["macs=0.6,steps=2,align=2", "macs=0.6,scope=global", "channel_ratio=0.5,scope=global"]
    ),
)
def test_keeps_its_promises(spec: str) -> None:
    (step,) = Pipeline.parse(f"prune{{{spec}}}").passes
    check_pass(step, graphs("conv", "residual", "concat"), 20)


def test_says_of_what_a_criterion_says_nothing() -> None:
    x = ops.Relu(named(conv(X, 3), "first"))
    (line,) = Prune(criterion="bn_scale").explain(Graph({"x": X}, {"y": conv(x, 2)}))
    assert line == "Conv 'first': bn_scale says nothing of it"
    assert list(Prune().explain(NET)) == []


def test_a_plan_shows_what_is_done() -> None:
    step = Prune(macs=0.5, scope="global")
    plan = step.planned(NET)
    after = step(NET)
    assert [line.kept for line in plan.lines] == widths(after)
    assert plan.after.macs == macs(after)
    assert (plan.before.macs, plan.target) == (macs(NET), {"macs": 0.5})
    assert plan.as_dict()["families"][0]["channels"] == 40
    assert all(0 <= line.lost < 1 for line in plan.lines)
