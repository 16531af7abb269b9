"""How much of a network's accuracy is left at shares of its multiply-adds, by redir and its peers.

None is trained on, and all are judged on the same images. Beside redir this needs its peers::

    pip install --no-deps torch-pruning==1.6.1 onnxsim==0.8.1 torchvision
    python -m tests.benchmarks.peers docs/examples/peers
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import onnxsim
import torch
import torch_pruning
from safetensors.torch import load_file

import redir
from redir.cost import macs
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.pipeline.compress import chosen
from redir.pipeline.sweep import swept
from redir.runtime.onnxruntime import session
from tests.benchmarks.architectures import built
from tests.benchmarks.classifiers import SHARED, Classifier, classifier, normalised
from tests.source_files import imported

SHARES = (0.9, 0.8, 0.7, 0.5)
SEEN = 256  # unlabelled images
_STEPS = range(1, 100)  # per cent of the channels that a peer removes
_FAR = 0.01  # from the share that was asked for: then a cell says how much is left

Pruned = Callable[[int], Graph]  # by per cent of the channels
Made = Callable[[], Graph]
Module = Any  # of torch, of which mypy sees nothing


@dataclass(frozen=True)
class Network:
    """A trained one: its classifier's name, unlabelled images, and a module of the same weights.

    ``parts`` gives those images, and the classifier with what it is judged on. ``module`` gives
    the module, and its last layer, whose outputs are the classes and stay.
    """

    model: str
    parts: Callable[[Classifier], tuple[Array, Classifier]]
    module: Callable[[], tuple[Module, Module]]


def _cifar(name: str) -> Network:
    def module() -> tuple[Module, Module]:
        source = imported(SHARED / "models/cifar_resnet.py")
        network = source.load(SHARED / f"models/{name}.safetensors")
        return network, network.linear

    return Network(f"{name}-bn", _of_the_training_set, module)


def _of_the_training_set(model: Classifier) -> tuple[Array, Classifier]:
    with np.load(SHARED / "data/cifar10-train4k.npz") as held:
        images = normalised(held["images"][:SEEN].astype(np.float32))
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), model


def _mobilenet() -> tuple[Module, Module]:
    network = built("mobilenet_v2")
    network.load_state_dict(load_file(SHARED / "models/trained/imagenet-mobilenetv2.safetensors"))
    return network, network.classifier[-1]


NETWORKS = {
    "cifar10-resnet20": _cifar("cifar10-resnet20"),
    "cifar10-resnet32": _cifar("cifar10-resnet32"),
    "imagenet-mobilenetv2": Network(
        "trained/cls-imagenet-mobilenetv2-bn", lambda model: model.parted(SEEN), _mobilenet
    ),
}


@dataclass(frozen=True)
class Point:
    """One model: what was asked for, what is left, and the processor time it took to make."""

    asked: float
    left: float
    accuracy: float
    seconds: float


def by_redir(model: Classifier, statistics: str) -> Iterator[Point]:
    """Those of the preset ``best``, as ``redir sweep`` makes them: statistics are taken once."""
    pipelines = [chosen(macs=share, statistics=statistics) for share in SHARES]
    results, start = swept(model.graph, pipelines), process_time()
    for place, result, _ in results:
        yield _point(model, SHARES[place], result.graph, process_time() - start)
        start = process_time()


def by_peer(model: Classifier, *ways: Pruned) -> Iterator[Point]:
    """The models nearest to the shares; of several ways to prune, that which gets most right."""
    for share in SHARES:
        makes = (nearest(model.graph, share, way) for way in ways)
        found = (_point(model, share, *timed(make)) for make in makes)
        yield max(found, key=lambda point: point.accuracy)


def nearest(graph: Graph, share: float, way: Pruned) -> Made:
    """Makes what a way to prune gives that is nearest to a share."""
    wanted = share * macs(graph)
    first = bisect_left(_STEPS, -wanted, key=lambda step: -macs(way(step)))
    around = _STEPS[max(first - 1, 0) : first + 1]
    step = min(around, key=lambda step: abs(macs(way(step)) - wanted))
    return partial(way.__wrapped__, step)  # type: ignore[attr-defined] # past the cache


def timed(make: Made) -> tuple[Graph, float]:
    """What is made, and the processor time it took."""
    start = process_time()
    made = make()
    return made, process_time() - start


def _point(model: Classifier, share: float, made: Graph, seconds: float) -> Point:
    left = macs(made) / macs(model.graph)
    right = replace(model, graph=made).accuracy(session(made))
    return Point(share, left, right, seconds)


def torch_pruning_of(
    network: Network, shape: Sequence[int], importance: Any, step: int, *, everywhere: bool
) -> Graph:
    """Torch-Pruning of a network, layer by layer or ``everywhere`` at once."""
    module, last = network.module()
    images = torch.zeros(2, *shape)
    torch_pruning.pruner.BasePruner(
        module,
        images,
        importance=importance,
        global_pruning=everywhere,
        pruning_ratio=step / 100,
        ignored_layers=[last],
        num_heads=module.heads() if hasattr(module, "heads") else {},
    ).step()
    return redir.from_torch(module, (images,), dynamic_shapes=({0: torch.export.Dim("n")},))


def onnxsim_of(folded: Graph, step: int, *, everywhere: bool) -> Graph:
    """onnxsim's structured pruning, which knows no norms."""
    proto = redir.backends.onnx.to_proto(folded)
    return redir.load(
        onnxsim.apply_structured_pruning(proto, step / 100, global_sparsity=everywhere)
    )


def methods(
    network: Network, model: Classifier, images: Array, folder: Path
) -> Mapping[str, Iterator[Point]]:
    """What makes points, by name."""
    held: dict[str, Any] = {next(iter(model.graph.inputs)): images}
    np.savez(folder / "seen.npz", **held)
    pruned = partial(torch_pruning_of, network, images.shape[1:])
    importance = torch_pruning.importance
    peers = {
        "Torch-Pruning, group L2": partial(pruned, importance.GroupMagnitudeImportance(p=2)),
        "Torch-Pruning, BN scale": partial(pruned, importance.BNScaleImportance()),
        "onnxsim": partial(onnxsim_of, redir.compress(model.graph)),
    }
    return {
        "redir, no data": by_redir(model, "auto"),
        f"redir, {SEEN} images": by_redir(model, str(folder / "seen.npz")),
        **{
            peer: by_peer(model, *(cache(partial(make, everywhere=each)) for each in (True, False)))
            for peer, make in peers.items()
        },
    }


def measured(name: str, folder: Path) -> dict[str, Any]:
    """The accuracy of a network, and the points of each method; a table is printed on the way."""
    network = NETWORKS[name]
    images, model = network.parts(classifier(network.model))
    whole = model.accuracy(session(model.graph))
    print(f"\n{name}: {macs(model.graph):,} multiply-adds, {whole:.2f} %\n")
    print("|", " | ".join(("", *map(str, SHARES), "seconds")), "|")
    print("|---" + "|--:" * (len(SHARES) + 1) + "|")
    found: dict[str, Any] = {}
    for method, points in methods(network, model, images, folder).items():
        made = list(points)
        print("|", " | ".join((method, *map(_cell, made), _slowest(made))), "|", flush=True)
        found[method] = [
            {"left": round(point.left, 2), "accuracy": round(point.accuracy, 2)} for point in made
        ]
    return {"accuracy": round(whole, 2), "methods": found}


def _cell(point: Point) -> str:
    left = f" at {point.left:.2f}" if abs(point.left - point.asked) > _FAR else ""
    return f"{point.accuracy:.2f}{left}"


def _slowest(points: Sequence[Point]) -> str:
    return f"{max(point.seconds for point in points):.1f}"


def main(folder: Path, *names: str) -> None:
    """Print a table in Markdown for each network, and write it as JSON too."""
    torch.set_num_threads(1)
    for name in names or NETWORKS:
        with tempfile.TemporaryDirectory() as cache_folder:
            os.environ["REDIR_CACHE"] = cache_folder  # synthetic inputs are made anew, and counted
            found = measured(name, Path(cache_folder))
        text = json.dumps(found, indent=1) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
