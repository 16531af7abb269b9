"""Widths that stay multiples of a step, so that runtimes stay fast."""

from __future__ import annotations

import numpy as np
import pytest

from redir import ops
from redir.errors import BadPipeline
from redir.ir import Graph
from redir.ir.tensor import Dim
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.merge import Merge
from redir.pipeline import Pipeline
from redir.pipeline.presets import preset
from redir.testing import check_on
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)


def width(graph: Graph) -> int:
    """The channels between the two layers of ``network``."""
    first = next(node for node in graph.nodes if node.op == ops.Conv)
    return first.outputs[0].type.size(1) or 0


def network(wide: int, less: int, *sides: Dim, copied: bool = False) -> Graph:
    """Two layers with ``wide`` channels between them, of which ``less`` are dead, or copies."""
    made, read = RNG.normal(size=(wide, 4, 3, 3)), RNG.normal(size=(5, wide, 1, 1))
    made[wide - less :] = made[0] if copied else made[wide - less :]
    read[:, wide - less :] *= copied
    x = placeholder(1, 4, *sides)
    y = ops.Conv(ops.Relu(ops.Conv(x, const(made))), const(read))
    return Graph({"x": x}, {"y": y})


LARGE = (34, 34)
CASES: dict[str, tuple[Graph, int]] = {
    "fewer than a step": (network(16, 3, *LARGE), 16),
    "more than a step": (network(16, 5, *LARGE), 12),
    "half of them": (network(16, 8, *LARGE), 8),
    "more than half": (network(16, 9, *LARGE), 7),
    "no multiple": (network(14, 3, *LARGE), 11),
    "little work": (network(16, 3, 5, 5), 13),
    "open sizes": (network(64, 3, "h", "w"), 64),
    "little work with open sizes": (network(16, 3, "h", "w"), 13),
}


@pytest.mark.parametrize("what", CASES)
def test_dead_channels_stay_within_a_step(what: str) -> None:
    graph, left = CASES[what]
    assert width(check_on(EliminateDeadChannels(step=4), graph)) == left


@pytest.mark.parametrize(("copies", "left"), [(3, 16), (5, 12), (9, 7)])
def test_copies_stay_within_a_step(copies: int, left: int) -> None:
    assert width(check_on(Merge(step=4), network(16, copies, *LARGE, copied=True))) == left


def test_channels_that_are_added_up_stay_within_a_step() -> None:
    x, same = placeholder(1, 4, *LARGE), np.ones((5, 16, 1, 1))
    same[:, :13] = RNG.normal(size=(5, 13, 1, 1))
    y = ops.Conv(ops.Conv(x, const(RNG.normal(size=(16, 4, 3, 3)))), const(same))
    graph = Graph({"x": x}, {"y": y})
    assert [width(check_on(Merge(step=n), graph)) for n in (1, 4)] == [14, 16]


def test_all_go_where_no_step_is_asked_for() -> None:
    assert width(EliminateDeadChannels()(network(16, 3, *LARGE))) == 13


def test_exact_asks_for_one() -> None:
    assert width(preset("exact")(network(16, 3, *LARGE))) == 16


@pytest.mark.parametrize("name", ["merge", "eliminate-dead-channels"])
def test_a_step_is_one_or_more(name: str) -> None:
    with pytest.raises(BadPipeline, match="step is 1 or more"):
        Pipeline.parse(f"{name}{{step=0}}")
