"""What the preset red costs in accuracy on trained networks."""

from __future__ import annotations

from pathlib import Path

import pytest

import redir
from redir import cost
from redir.app import tables
from redir.evaluation import accuracy
from redir.io.models import load, save
from redir.ir.tensor import Array
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import session
from tests.benchmarks.classifiers import classifier

POINTS = 0.3  # of accuracy, in per cent, that may be lost at the default bandwidth


@pytest.fixture(scope="module")
def cifar(shared: Path) -> tuple[Array, Array]:
    """Normalised images (5000, 3, 32, 32) and their labels (5000,)."""
    del shared  # skips where it is absent
    model = classifier("cifar10-resnet20-bn")
    return model.images, model.labels


@pytest.mark.bench
@pytest.mark.parametrize("name", ["cifar10-resnet20-bn", "cifar10-resnet32-bn"])
def test_red_keeps_the_accuracy(shared: Path, cifar: tuple[Array, Array], name: str) -> None:
    graph = load(shared / f"models/{name}.onnx")
    clean = redir.compress(graph)
    after = redir.compress(graph, preset="red")
    images, labels = cifar
    feeds = {next(iter(graph.inputs)): images}
    right = {
        kind: 100 * accuracy(session(g), feeds, labels)
        for kind, g in (("original", graph), ("exact", clean), ("red", after))
    }
    rows = [
        (old.name, old.op, old.cost.parameters, old.cost.distinct, new.cost.distinct)
        for old, new in zip(cost.layers(clean), cost.layers(after), strict=True)
    ]
    print(f"\n{name}: accuracy in %", right)
    tables.write_table(("layer", "operator", "parameters", "distinct", "after red"), rows)
    print("total", cost.total(graph), cost.total(after), sep="\n")
    assert right["original"] - right["red"] <= POINTS


@pytest.mark.bench
@pytest.mark.parametrize("name", ["cifar10-resnet20-bn", "cifar10-resnet20-folded"])
@pytest.mark.parametrize(("error", "share", "points"), [(0.04, 0.25, 0.1), (0.08, 0.16, 1.0)])
def test_palettes_keep_the_accuracy(
    shared: Path,
    cifar: tuple[Array, Array],
    tmp_path: Path,
    name: str,
    error: float,
    share: float,
    points: float,
) -> None:
    path = shared / f"models/{name}.onnx"
    graph, (images, labels) = load(path), cifar
    spec = f"fold-constants,fold-batchnorm,hash{{error=0.01}},palettize{{error={error}}}"
    save(Pipeline.parse(spec).run(graph), tmp_path / "packed.onnx")
    after, feeds = load(tmp_path / "packed.onnx"), {next(iter(graph.inputs)): images}
    old, new = (100 * accuracy(session(g), feeds, labels) for g in (graph, after))
    ratio = (tmp_path / "packed.onnx").stat().st_size / path.stat().st_size
    print(f"\n{name}: {old:.2f} became {new:.2f} in {ratio:.4f} of the bytes")
    assert ratio <= share
    assert old - new <= points
