"""Half of the free channels of real models removed is the same as half of them silenced.

Each model has one criterion of several, and one of those that ask for inputs or labels; channels of
all its families are compared or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from redir.backends.onnx import save
from redir.errors import Unsupported
from redir.frontends.onnx import load
from redir.importance import Labelled
from redir.importance.shapley import Shapley
from redir.ir import Graph
from redir.passes.prune import Prune, Scope
from redir.pipeline import Pipeline
from tests.importance.networks import summed
from tests.real.inputs import SHARED, Feeds, feeds_of, name_of, outputs_of, session

CLEAN = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm,cse")


CRITERIA = ("l2", "dafp", "fpgm", "lamp", "l1", "bn_scale", "rectified", "random")
WAYS = [(path, CRITERIA[i % 8], ("layer", "global")[i % 3 % 2]) for i, path in enumerate(SHARED)]
ASKING = ("energy", "taylor", "apoz", "shapley", "sensitivity", "mint", "taylor_group")
WITH_DATA = [(path, ASKING[i % 7]) for i, path in enumerate(SHARED)]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("path", "criterion", "scope"), WAYS, ids=[f"{name_of(p)}-{c}-{s}" for p, c, s in WAYS]
)
def test_removing_is_the_same_as_silencing(
    path: Path, criterion: str, scope: Scope, tmp_path: Path
) -> None:
    graph, feeds = read(path)
    assert_same(*both(graph, Prune(criterion=criterion, scope=scope), feeds, tmp_path))


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("path", "name"), WITH_DATA, ids=[f"{name_of(p)}-{name}" for p, name in WITH_DATA]
)
def test_so_it_is_where_inputs_or_labels_say_what_goes(
    path: Path, name: str, tmp_path: Path
) -> None:
    graph, feeds = read(path)
    by = {"shapley": Shapley(1, budget=10)}.get(name, name)
    prune = Prune(criterion=by, labelled=labelled(feeds))
    with skipping_what_cannot_run():
        found = both(graph, prune, feeds, tmp_path)
    assert_same(*found)


def read(path: Path) -> tuple[Graph, Feeds]:
    """A model, and arrays for its inputs."""
    graph = CLEAN.run(load(path, overridable_initializers="constant"))
    return graph, {name: a for name, a in feeds_of(path).items() if name in graph.inputs}


def labelled(feeds: Feeds) -> Labelled:
    """The arrays as examples, whose loss is the output itself."""
    sizes = {len(np.atleast_1d(array)) for array in feeds.values()}
    if len(sizes) > 1:
        pytest.skip(f"its inputs are no examples: there are {sizes}")
    return Labelled(feeds, np.zeros(max(sizes), int), summed)


@contextmanager
def skipping_what_cannot_run() -> Iterator[None]:
    """Nothing flows through an operator that redir does not know."""
    try:
        yield
    except Unsupported as error:
        pytest.skip(str(error))


def both(graph: Graph, prune: Prune, feeds: Feeds, folder: Path) -> tuple[Feeds, Feeds]:
    """What the silenced model computes, and the smaller one."""
    silent, smaller = (
        computed(replace(prune, compact=way)(graph), feeds, folder) for way in (False, True)
    )
    return silent, smaller


def computed(graph: Graph, feeds: Feeds, folder: Path) -> Feeds:
    """What onnxruntime makes of it."""
    save(graph, folder / "pruned.onnx")
    held = session(folder / "pruned.onnx")
    assert held is not None
    return outputs_of(held, feeds)


def assert_same(silent: Feeds, smaller: Feeds) -> None:
    for name, array in silent.items():
        bound = 1e-6 + 1e-5 * np.abs(array).max()
        np.testing.assert_allclose(smaller[name], array, rtol=0, atol=bound)
