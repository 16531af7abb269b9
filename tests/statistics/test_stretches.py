"""What is behind a node, run in stretches: as the whole graph would."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.ir import Graph, Node, Value, evaluate
from redir.ir.rewriter import transform
from redir.ir.tensor import Array
from redir.runtime.onnxruntime import Run
from redir.statistics import rest as rest_module
from redir.statistics import stretches as module
from redir.statistics.rest import Rest
from redir.statistics.stretches import Stretches
from redir.statistics.walk import Batches, Held, running, walk
from tests.helpers import const, placeholder

RNG = np.random.default_rng(0)
WIDTH, BLOCKS = 4, 5


def dense(x: Value) -> Value:
    return ops.MatMul(x, const(RNG.normal(size=(WIDTH, WIDTH)) / 2))


def network() -> Graph:
    """Blocks of two layers beside what they read, an early output and one that is constant."""
    x = placeholder("n", WIDTH)
    y, outputs = ops.Relu(x), {"read": x, "told": const(RNG.normal(size=3))}
    for place in range(BLOCKS):
        y = ops.Add(y, dense(ops.Tanh(dense(y))))
        outputs.update({"early": y} if place == 1 else {})
    return Graph({"x": x}, {**outputs, "late": y})


GRAPH = network()
LAYERS = [node for node in GRAPH.nodes if node.has("layer")]
BATCHES = [{"x": RNG.normal(size=(n, WIDTH)).astype(np.float32)} for n in (3, 2)]


def behind(stretches: Stretches, wanted: Node, batches: Batches = BATCHES) -> Rest:
    """What is behind a node, and what is held there."""
    found = list[Rest]()

    def step(node: Node, _: list[list[Any]], held: Held) -> None:
        if node is wanted:
            found.append(Rest.behind(stretches, node, held))

    walk(stretches.graph, batches, step, "a test")
    return found[0]


def whole(
    node: Node, made: Callable[[Value], Value], batches: Batches = BATCHES
) -> dict[str, Array]:
    """The outputs of the graph, where something else stands for a node."""
    graph = transform(GRAPH, lambda n, inputs: [made(inputs[0])] if n is node else None)
    runs = [evaluate(graph, batch) for batch in batches]
    return {name: np.concatenate([np.ravel(r[name]) for r in runs]) for name in graph.outputs}


MADE: dict[str, Callable[[Value], Value]] = {
    "others": lambda x: ops.Mul(x, x),
    "one number for all": lambda _: const(np.full((1, WIDTH), 0.5)),
}


@pytest.mark.parametrize("place", range(2 * BLOCKS))
@pytest.mark.parametrize("made", MADE)
def test_the_outputs_are_those_of_the_whole(place: int, made: str) -> None:
    rest, node = behind(Stretches(GRAPH), LAYERS[place]), LAYERS[place]
    found, wanted = rest.outputs(MADE[made]), whole(node, MADE[made])
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=1e-4)


def test_a_constant_that_is_read_again_far_behind_is_another_there_too() -> None:
    x, weight = placeholder("n", WIDTH), const(RNG.normal(size=(WIDTH, WIDTH)))
    y = ops.MatMul(x, weight)
    for _ in range(4):
        y = dense(y)
    graph = Graph({"x": x}, {"y": ops.MatMul(y, weight)})
    (first,) = [n for n in graph.nodes if n.inputs and n.inputs[0] is x]
    other = const(RNG.normal(size=(WIDTH, WIDTH)))
    found = behind(Stretches(graph), first).outputs_with({weight: other})
    last = [node for node in graph.nodes if node.inputs][-1]
    swapped = transform(
        graph, lambda n, inputs: n.on((inputs[0], other)).outputs if n in (first, last) else None
    )
    runs = [evaluate(swapped, batch) for batch in BATCHES]
    wanted = np.concatenate([np.ravel(r["y"]) for r in runs])
    np.testing.assert_allclose(found["y"], wanted, atol=1e-4)


def count(monkeypatch: pytest.MonkeyPatch, of: ModuleType) -> list[int]:
    """The layers of each graph that a module runs from now on."""
    made = list[int]()

    def run(graph: Graph) -> Run:
        made.append(sum(node.has("layer") for node in graph.nodes))
        return running(graph)

    monkeypatch.setattr(of, "running", run)
    return made


def test_what_is_behind_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stretches = count(monkeypatch, module), Stretches(GRAPH)
    for layer in LAYERS:
        behind(stretches, layer).outputs(MADE["others"])
    assert len(stretches.ends) == 4
    far, near, constants = [3, 3, 1], [1] * 6, [0]
    assert sorted(made) == sorted([*far, *near, *constants])


def test_what_stands_for_a_layer_may_say_sizes_that_are_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, stretches = count(monkeypatch, rest_module), Stretches(GRAPH)
    noise = const(RNG.normal(size=(3, WIDTH)))
    found = behind(stretches, LAYERS[1], BATCHES[:1]).outputs(lambda x: ops.Add(x, noise))
    wanted = whole(LAYERS[1], lambda x: ops.Add(x, noise), BATCHES[:1])
    np.testing.assert_allclose(found["late"], wanted["late"], atol=1e-4)
    assert made == [0]
