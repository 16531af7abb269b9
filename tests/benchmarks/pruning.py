"""What is left of a network that lost channels by one criterion, by redir and its peers.

All are brought to the same share of the multiply-adds, and judged on the same images: as they
are, and after the same training. Beside redir this needs its peers, as ``peers`` says::

    python -m tests.benchmarks.pruning FOLDER [NETWORK ...]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch_pruning

import redir
from redir.cost import macs
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes import Prune
from redir.runtime.onnxruntime import Run, session
from tests.benchmarks.classifiers import SHARED, Classifier, classifier, normalised
from tests.benchmarks.encoder import Encoder, Examples, digits, fit
from tests.benchmarks.peers import (
    NETWORKS,
    SEEN,
    Made,
    Network,
    nearest,
    onnxsim_of,
    timed,
    torch_pruning_of,
)

EPOCHS = 2
_LESSONS = 2000  # images of CIFAR-10


@dataclass(frozen=True, eq=False)
class Trial:
    """A network with what it is judged on, and the ``share`` of its multiply-adds that stays.

    Statistics are of unlabelled ``images``; it is trained on ``lessons``, if there are any.
    """

    network: Network
    model: Classifier
    images: Array
    share: float
    criteria: tuple[str, ...] = ("l2", "bn_scale")
    lessons: Examples | None = None


@dataclass(frozen=True)
class Row:
    """What one way came to: accuracies in per cent, seconds, and the megabytes it took."""

    left: float
    accuracy: float
    trained: float | None
    seconds: float
    memory: float

    def __str__(self) -> str:
        after = "" if self.trained is None else f"{self.trained:.2f}"
        took = f"{self.seconds:.1f} | {self.memory:.0f}"
        return f"{self.left:.3f} | {self.accuracy:.2f} | {after} | {took}"


def cifar(name: str) -> Trial:
    """A ResNet, and images of its training set."""
    network = NETWORKS[name]
    images, model = network.parts(classifier(network.model))
    with np.load(SHARED / "data/cifar10-train4k.npz") as held:
        seen, labels = held["images"][:_LESSONS].astype(np.float32), held["labels"][:_LESSONS]
    ready = np.ascontiguousarray(normalised(seen).transpose(0, 3, 1, 2))
    return Trial(network, model, images, 0.8, lessons=(ready, labels))


def mobilenet(name: str) -> Trial:
    """MobileNetV2: each photograph is of a class of its own, so there are none to train on."""
    network = NETWORKS[name]
    images, model = network.parts(classifier(network.model))
    return Trial(network, model, images, 0.9, criteria=("l2",))


def encoder(name: str) -> Trial:
    """A transformer encoder, which is trained first."""
    seen, new = digits()
    torch.manual_seed(0)
    original = Encoder()
    fit(original, seen, epochs=12)

    def module() -> tuple[Encoder, Any]:
        made = Encoder()
        made.load_state_dict(original.state_dict())
        return made.eval(), made.classes

    few = torch.from_numpy(seen[0][:2])
    graph = redir.from_torch(original, (few,), dynamic_shapes=({0: torch.export.Dim("n")},))
    model = Classifier(name, graph, *new)
    network = Network(name, lambda model: (seen[0][:SEEN], model), module)
    return Trial(network, model, seen[0][:SEEN], 0.7, ("l2",), seen)


TRIALS: Mapping[str, Callable[[str], Trial]] = {
    "cifar10-resnet20": cifar,
    "cifar10-resnet32": cifar,
    "imagenet-mobilenetv2": mobilenet,
    "encoder": encoder,
}


def methods(trial: Trial, seen: str) -> Iterator[tuple[str, str, list[Made]]]:
    """A criterion, who prunes by it, and how: the same share of each layer, or of all together."""
    graph, importance = trial.model.graph, torch_pruning.importance
    theirs = {
        "l2": importance.GroupMagnitudeImportance(p=2),
        "bn_scale": importance.BNScaleImportance(),
    }
    for by in trial.criteria:
        for name, solved in (("redir", False), ("redir, reconstructed", True)):
            step = Prune(macs=trial.share, criterion=by, reconstruct=solved, statistics=seen)
            yield by, name, [partial(step, graph), partial(replace(step, scope="global"), graph)]
        pruned = partial(torch_pruning_of, trial.network, trial.images.shape[1:], theirs[by])
        yield by, "Torch-Pruning", list(_nearest(trial, pruned))
        if by == "l2":  # which is what onnxsim prunes by
            pruned = partial(onnxsim_of, redir.compress(graph))
            yield by, "onnxsim", list(_nearest(trial, pruned))


def _nearest(trial: Trial, way: Callable[..., Graph]) -> Iterator[Made]:
    for each in (False, True):
        pruned = cache(partial(way, everywhere=each))
        yield nearest(trial.model.graph, trial.share, pruned)


def measured(trial: Trial, makes: Iterable[Made], *, train: bool) -> Row:
    """The best of several, as long as nothing is trained, and what training brings that one."""
    found = list[tuple[Row, Graph]]()
    for make in makes:
        made, seconds, memory = apart(make)
        left = macs(made) / macs(trial.model.graph)
        right = replace(trial.model, graph=made).accuracy(session(made))
        found.append((Row(left, right, None, seconds, memory), made))
    best, made = max(found, key=lambda pair: pair[0].accuracy)
    if not train or trial.lessons is None:
        return best
    model = replace(trial.model, graph=made)
    return replace(best, trained=model.accuracy(trained(made, trial.lessons)))


def apart(make: Made) -> tuple[Graph, float, float]:
    """What is made in a process of its own, its seconds, and the megabytes that it grew by."""
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(make, theirs))
    child.start()
    theirs.close()
    proto, seconds, memory = ours.recv()
    child.join()
    return redir.load(proto), seconds, memory


def _send(make: Made, end: Connection) -> None:
    before = getrusage(RUSAGE_SELF).ru_maxrss
    made, seconds = timed(make)
    grown = getrusage(RUSAGE_SELF).ru_maxrss - before
    end.send((redir.backends.onnx.to_proto(made), seconds, grown / 1024))


def trained(graph: Graph, lessons: Examples) -> Run:
    """What runs the network after it was trained."""
    module: Any = redir.to_torch(graph)
    fit(module, lessons, EPOCHS)

    def run(feeds: Mapping[str, Array]) -> dict[str, Any]:
        with torch.no_grad():
            return {"y": module(*map(torch.from_numpy, feeds.values())).numpy()}

    return run


def main(folder: Path, *names: str) -> None:
    """Print a table in Markdown for each network, and write it as JSON too."""
    torch.set_num_threads(1)
    for name in names or TRIALS:
        with TemporaryDirectory() as temporary:
            found = list(rows(TRIALS[name](name), Path(temporary) / "seen.npz"))
        text = json.dumps(found, indent=1) + "\n"
        (folder / f"{name}-pruned.json").write_text(text, encoding="utf-8")


def rows(trial: Trial, seen: Path) -> Iterator[dict[str, Any]]:
    """What each way came to, which is printed."""
    model = trial.model
    whole = model.accuracy(session(model.graph))
    print(f"\n{model.name}: {whole:.2f} %, {trial.share} of the multiply-adds\n")
    print("| criterion | | left | accuracy | trained | seconds | MB |")
    print("|---|---|--:|--:|--:|--:|--:|")
    held: dict[str, Any] = {next(iter(model.graph.inputs)): trial.images}
    np.savez(seen, **held)
    for by, who, makes in methods(trial, str(seen)):
        row = measured(trial, makes, train=by == "l2")
        print(f"| `{by}` | {who} | {row} |", flush=True)
        yield {"criterion": by, "who": who, **asdict(row)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
