"""Widths that stay multiples of a step, so that runtimes stay fast."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pytest

from redir import ops
from redir.channels import steps
from redir.channels.coupling import Coupling
from redir.errors import BadPipeline
from redir.ir import Graph
from redir.ir.tensor import Dim
from redir.passes import eliminate_dead_channels
from redir.passes.eliminate_dead_channels import EliminateDeadChannels
from redir.passes.merge import Merge, plan
from redir.pipeline import Pass, Pipeline
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
CASES: dict[str, tuple[int, int, tuple[Dim, ...], int]] = {
    "fewer than a step": (16, 3, LARGE, 16),
    "more than a step": (16, 5, LARGE, 12),
    "less than half": (16, 7, LARGE, 12),
    "half of them": (16, 8, LARGE, 8),
    "more than half": (16, 9, LARGE, 7),
    "no multiple": (14, 3, LARGE, 11),
    "little work": (16, 3, (5, 5), 13),
    "open sizes": (64, 3, ("h", "w"), 64),
    "little work with open sizes": (16, 3, ("h", "w"), 13),
}
STEPS: dict[str, tuple[Pass, bool]] = {
    "dead channels": (EliminateDeadChannels(step=4), False),
    "copies": (Merge(step=4), True),
}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("what", CASES)
def test_widths_stay_within_a_step(what: str, kind: str) -> None:
    (step, copied), (wide, less, sides, left) = STEPS[kind], CASES[what]
    assert width(check_on(step, network(wide, less, *sides, copied=copied))) == left


def otherwise(*, share: int = 2, multiples: bool = True, more: int = 0) -> Callable[..., set[int]]:
    """Which channels may go by another rule than that of ``stepped``."""

    def wrong(coupling: Coupling, groups: Collection[int], step: int) -> set[int]:
        left = set(groups)
        for node in coupling.graph.nodes:
            if node.op == ops.Conv and steps._work(node) > steps._WORK:
                held = coupling.group((node.inputs[1], 0)).tolist()
                lost = [group for group in held if group in left]
                if len(held) % step * multiples == 0 and share * len(lost) < len(held):
                    left.difference_update(lost[(len(lost) // step + more) * step :])
        return left

    return wrong


RULES: dict[str, tuple[str, Callable[..., object]]] = {
    "lets all go": ("stepped", lambda _, groups, __: set(groups)),
    "lets none go": ("stepped", lambda *_: set[int]()),
    "lets another step go": ("stepped", otherwise(more=1)),
    "lets a third go": ("stepped", otherwise(share=3)),
    "holds what is half": ("stepped", otherwise(share=1)),
    "holds what is no multiple": ("stepped", otherwise(multiples=False)),
    "holds small layers": ("_work", lambda _: steps._WORK + 1),
    "lets large layers go": ("_work", lambda _: steps._WORK),
}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_refuted_that(rule: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, wrong = RULES[rule]
    for module in (steps, eliminate_dead_channels, plan):
        monkeypatch.setattr(module, name, wrong, raising=False)
    step, copied = STEPS[kind]
    found = {
        what: width(step(network(wide, less, *sides, copied=copied)))
        for what, (wide, less, sides, _) in CASES.items()
    }
    assert found != {what: left for what, (*_, left) in CASES.items()}


def test_the_rule_itself_is_not_refuted() -> None:
    coupling = Coupling(network(16, 5, *LARGE))
    groups = coupling.group((coupling.graph.nodes[-1].inputs[1], 1)).tolist()
    assert otherwise()(coupling, groups, 4) == steps.stepped(coupling, groups, 4)


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
