"""What redir does to transformers as people export them, of small models with random weights.

For each architecture and each export: whether ``exact`` gives the same in onnxruntime at several
sizes, what half of the channels pruned leave, whether the model without them gives what the model
with zeros for them does, and whether ``params=0.8`` and ``macs=0.8`` are met. Needs transformers::

    python -m tests.benchmarks.transformers FOLDER [ARCHITECTURE ...]

Exports that are in FOLDER are not made again. A share that is not met is a dash.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import redir
from redir.channels.coupling import Coupling, blocked
from redir.cost import macs, parameters
from redir.errors import RedirError
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.passes.prune import Prune
from redir.pipeline.presets import preset
from redir.runtime.onnxruntime import session

ROOT = Path(__file__).parents[2]
SOURCES = {  # of each export the way to compute attention, or the export that it is made from
    "TorchScript": "eager",
    "dynamo": "sdpa",
    "dynamo, Attention": "sdpa",
    "optimiser": "TorchScript",
    "onnxruntime": "TorchScript",
}
ARCHITECTURES = (
    *("BERT", "RoBERTa", "DistilBERT", "ALBERT", "ViT", "DeiT", "Swin", "Whisper encoder"),
    *("GPT-2", "Llama", "Qwen2", "Qwen3"),
)
SIZES = ((1, 5), (3, 12), (2, 1))  # examples, and words of each
SAME = 1e-5  # as a share of the output's magnitude
SHARE, MISSED = 0.8, 0.01  # that is asked for, and by how much it may be missed
HEAD = ("architecture", "export", "exact", "kept", "zeros", "params", "macs", "families", "pinned")

Feeds = Mapping[str, Array]


def exported(folder: Path, name: str, export: str) -> Path | str:
    """The file of an export, made if it is not there, or the last words of why it cannot be."""
    path, source = folder / f"{name}-{export}.onnx".replace(" ", "_"), SOURCES[export]
    if source in SOURCES:
        before = exported(folder, name, source)
        if isinstance(before, str):
            return before
        source = str(before)
    if not path.exists():
        command = [sys.executable, "-m", "tests.benchmarks.transformers_exports"]
        command += [name, source, export, str(path)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            return (run.stderr.strip().splitlines() or ["killed"])[-1]
    return path


@dataclass(frozen=True, eq=False)
class Export:
    """A model as it was exported, on inputs of those sizes that it runs at."""

    graph: Graph

    @cached_property
    def known(self) -> Sequence[tuple[Feeds, dict[str, Any]]]:
        """Inputs, and what the export gives on them."""
        run, found = session(self.graph), []
        for examples, words in SIZES:
            feeds = self._feeds(examples, words)
            try:
                found.append((feeds, run(feeds)))
            except RedirError:  # some exports run on one example only
                continue
        assert found
        return found

    def _feeds(self, examples: int, words: int) -> Feeds:
        rng, feeds = np.random.default_rng(0), dict[str, Array]()
        for name, value in self.graph.inputs.items():
            rest = [d for d in (value.type.shape or ())[1:] if isinstance(d, int)]
            if value.type.dtype.kind == "f":
                feeds[name] = rng.normal(size=(examples, *rest)).astype(np.float32)
            elif name == "attention_mask":
                mask = np.ones((examples, words), value.type.dtype)
                mask[0, max(words - 2, 1) :] = 0
                feeds[name] = mask
            else:
                feeds[name] = rng.integers(2, 400, (examples, words)).astype(value.type.dtype)
        return feeds

    def off(self, other: Graph, than: Graph | None = None) -> float:
        """How far a graph's outputs are from the export's, or another's, as a share of these."""
        run, wanted = session(other), session(than) if than else None
        pairs = [(run(f)["out"], (wanted(f) if wanted else y)["out"]) for f, y in self.known]
        if any(a.shape != b.shape or not np.isfinite(a).all() for a, b in pairs):
            return np.inf
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)

    def share(self, target: str, count: Callable[[Graph], int]) -> float:
        """What ``compress`` leaves of a count, if what it makes runs."""
        options: dict[str, Any] = {target: SHARE}
        after = redir.compress(self.graph, **options)
        return np.inf if self.off(after) == np.inf else count(after) / count(self.graph)

    def row(self) -> list[str]:
        """The cells behind the names."""
        exact = preset("exact").run(self.graph)
        pruned, zeroed = (Prune(channel_ratio=0.5, compact=c)(exact) for c in (True, False))
        coupling = Coupling(exact)
        pins = Counter(str(node.op) for _, node in blocked(coupling))
        kept = parameters(pruned) / parameters(self.graph)
        ends = [{n: v.type.shape for n, v in g.inputs.items()} for g in (self.graph, pruned)]
        return [
            _marked(self.off(exact), SAME, ".0e"),
            _marked(kept if ends[0] == ends[1] else np.inf, 1, ".3f"),
            _marked(self.off(pruned, zeroed), SAME, ".0e"),
            *(_marked(found, SHARE + MISSED, ".3f") for found in self._shares()),
            str(len(list(coupling.channel_families()))),
            ", ".join(f"{name} {count}" for name, count in pins.most_common()) or "-",
        ]

    def _shares(self) -> list[float]:
        found = []
        for target, count in (("params", parameters), ("macs", macs)):
            try:
                found.append(self.share(target, count))
            except RedirError as error:
                print(f"{target}: {error}", file=sys.stderr)
                found.append(np.nan)
        return found


def _marked(number: float, most: float, form: str) -> str:
    """A number, marked if it is too large; a dash for one that there is not."""
    if np.isnan(number):
        return "-"
    return f"{number:{form}}" if number <= most else f"**{number:{form}}**"


def main(folder: Path, names: Sequence[str]) -> None:
    """Print the table of the architectures ``names``, each in all exports."""
    folder.mkdir(parents=True, exist_ok=True)
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD), flush=True)
    for name in names:
        for export in SOURCES:
            path = exported(folder, name, export)
            if isinstance(path, str):
                print(f"{name}, {export}: {path}", file=sys.stderr)
                continue
            cells = Export(redir.load(path)).row()
            print("| " + " | ".join([name, export, *cells]) + " |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), sys.argv[2:] or ARCHITECTURES)
