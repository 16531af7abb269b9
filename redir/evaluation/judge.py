"""Judging models: examples, a metric, and what the original gets by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np

from redir.errors import BadInput, TooLarge
from redir.evaluation.metrics import METRICS, USUAL, Metric, Part, metric
from redir.evaluation.scales import Scale, scale
from redir.io import arrays
from redir.ir import Graph
from redir.ir.tensor import Array
from redir.progress import progress
from redir.runtime.onnxruntime import Run, runner
from redir.statistics.given import Images

_AT_ONCE = 100  # examples
_IMAGES = 256  # of a folder, at most
_SEED = 0  # by which they are drawn


@dataclass(frozen=True)
class Judged:
    """What a model gets by a ``metric``, and what the original got; infinite if there is no bound.

    ``higher`` numbers are better, or lower ones. ``against`` are ``targets``, or the ``original``.
    """

    metric: str
    higher: bool
    against: str
    before: float
    after: float

    @property
    def lost(self) -> float:
        """By how much it is worse, in points of a share and else in the unit of the metric."""
        worse = self.before - self.after if self.higher else self.after - self.before
        return self.scale.factor * worse

    @property
    def scale(self) -> Scale:
        """How the numbers are written."""
        return scale(self.metric)

    @property
    def accuracy(self) -> dict[str, float] | None:
        """The shares of right answers, if that is what the numbers are."""
        return {"before": self.before, "after": self.after} if self.metric == USUAL else None

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        numbers = {"before": bounded(self.before), "after": bounded(self.after)}
        return {**told(self.metric, self.higher, self.against), **numbers}


def told(name: str, higher: bool, against: str) -> dict[str, Any]:  # noqa: FBT001 - of a metric
    """What JSON holds of a metric."""
    return {"metric": name, "better": "higher" if higher else "lower", "against": against}


def bounded(number: float) -> float | None:
    """A number for JSON, which knows no infinite ones."""
    return number if isfinite(number) else None


@dataclass(frozen=True, eq=False)
class Examples:
    """The ``inputs`` of examples by name, and ``targets`` if there are any: examples first."""

    path: str
    inputs: Mapping[str, Array]
    targets: Mapping[str, Array]

    @classmethod
    def read(cls, path: str, graph: Graph, preprocess: str = "") -> Examples:
        """Those of an .npz file, or of a folder or .zip file of images after ``preprocess``.

        What is no input of the graph is a target.

        Raises:
            BadInput: an input is missing or of another type, or there are not as many of each.
        """
        if is_album(path):
            batches = Images(path, preprocess).batches(graph, _IMAGES, _SEED)
            held = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
            return cls(path, held, {})
        inputs, targets = arrays.parted(path, graph)
        found = cls(path, inputs, targets)
        for name, array in {**inputs, **targets}.items():
            if array.ndim == 0 or len(array) != len(found) or not len(array):
                what = f"{len(found)} examples, but {name!r} is {list(array.shape)}"
                raise BadInput(f"{path}: {what}")
        return found

    def __len__(self) -> int:
        """How many there are."""
        first = next(iter(self.inputs.values()))
        return len(first) if first.ndim else 0

    def cut(self, start: int, size: int, *, filled: bool) -> tuple[Mapping[str, Array], int]:
        """The inputs of ``size`` examples from ``start`` on, and how many there are.

        Where they are ``filled``, the last one stands for those that are missing.
        """
        places = np.arange(start, start + size)
        count = int((places < len(self)).sum())
        chosen = np.minimum(places, len(self) - 1) if filled else places[:count]
        return {name: array[chosen] for name, array in self.inputs.items()}, count


def is_album(path: str) -> bool:
    """Whether a path is that of images."""
    return Path(path).is_dir() or Path(path).suffix.lower() == ".zip"


@dataclass(frozen=True, eq=False)
class Judge:
    """Compares what models get by a metric with what the ``original`` gets."""

    original: Graph
    examples: Examples
    metric: Metric

    @classmethod
    def of(cls, graph: Graph, path: str, name: str = "", preprocess: str = "") -> Judge:
        """The judge by the data at a path and the metric of a name, by default ``top1``.

        Raises:
            BadInput: there is no such metric, or the data is not for it or the graph.
        """
        found = metric(name or USUAL)
        examples = Examples.read(path, graph, preprocess)
        if not examples.targets and not found.alone:
            others = ", ".join(each.name for each in METRICS.values() if each.alone)
            raise BadInput(
                f"{path}: {found.name} needs targets, expected an array 'label' beside the inputs; "
                f"--metric {others} compare with the original's outputs where there are none"
            )
        return cls(graph, examples, found)

    @property
    def against(self) -> str:
        """What outputs are compared with."""
        return "targets" if self.examples.targets else "original"

    @cached_property
    def before(self) -> float:
        """What the original gets."""
        return self._number(self.original)

    def __call__(self, after: Graph) -> Judged:
        """What another model gets, and what the original got."""
        of = self.metric
        return Judged(of.name, of.higher, self.against, self.before, self._number(after))

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of what the original gets."""
        of = self.metric
        return {**told(of.name, of.higher, self.against), "before": bounded(self.before)}

    def _number(self, graph: Graph) -> float:
        run, size = runner(graph), _size(self.original)
        like = run if graph is self.original else runner(self.original)
        try:
            found = fitting(lambda some: self.metric.of(self._parts(run, like, some)), size)
        except BadInput as error:
            raise BadInput(f"{self.examples.path}: {error}") from None
        if isnan(found):
            raise BadInput(f"{self.examples.path}: {self.metric.name} of the outputs is NaN")
        return found

    def _parts(self, run: Run, like: Run, size: int) -> Iterator[Part]:
        """What ``run`` makes of so many examples at a time, with targets or what ``like`` makes."""
        filled = _size(self.original) is not None
        for start in progress(range(0, len(self.examples), size), "examples"):
            feeds, count = self.examples.cut(start, size, filled=filled)
            made = _rows(run(feeds), size, count, filled=filled)
            targets = {n: a[start : start + count] for n, a in self.examples.targets.items()}
            if not targets:
                other = made if like is run else _rows(like(feeds), size, count, filled=filled)
                targets = _numbers(other)
            yield Part(made, targets, count)


class _Uneven(Exception):
    """Outputs are not those of one example behind the other."""


def fitting(judged: Callable[[int], float], size: int | None) -> float:
    """What is judged with so many examples at once, or as many as fit into memory.

    One at a time, where outputs do not say which example they are of.

    Raises:
        TooLarge: one example does not fit, or ``size``, if a model takes no other.
    """
    least, at_once = size or 1, size or _AT_ONCE
    while at_once > least:
        try:
            return judged(at_once)
        except TooLarge:
            at_once //= 2
        except _Uneven:
            at_once = 1
    return judged(least)


def _size(graph: Graph) -> int | None:
    """How many examples a graph takes at once, if it says so.

    Raises:
        BadInput: its inputs do not agree.
    """
    needed = [value for name, value in graph.inputs.items() if name not in graph.defaults]
    sizes = sorted({n for value in needed if (n := value.type.size(0)) is not None})
    if len(sizes) > 1:
        raise BadInput(
            f"the inputs of the model have first axes of {' and '.join(map(str, sizes))}: these "
            "are no examples"
        )
    return sizes[0] if sizes else None


def _rows(outputs: Mapping[str, Any], size: int, count: int, *, filled: bool) -> dict[str, Any]:
    """The outputs of ``count`` examples, of ``size`` that ran where they were ``filled``."""
    found, ran = {}, size if filled else count
    for name, array in outputs.items():
        each = isinstance(array, np.ndarray) and array.shape[:1] == (ran,)
        if not each and not filled and ran > 1:
            raise _Uneven
        found[name] = array[:count] if each else array
    return found


def _numbers(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs that are compared: those of floats, or else of whole numbers."""
    for kinds in ("f", "iu"):
        found = {n: a for n, a in outputs.items() if np.asarray(a).dtype.kind in kinds}
        if found:
            return found
    raise BadInput("the model gives no numbers to compare")


def accuracy(run: Run, images: Mapping[str, Array], labels: Array) -> float:
    """The share of examples whose largest output is at the label; arrays are (examples, ...).

    They run in batches, and in smaller ones where these take more memory than a run may.

    Raises:
        TooLarge: one example does.
    """
    examples = Examples("", images, {"label": labels})

    def parts(size: int) -> Iterator[Part]:
        for start in range(0, len(labels), size):
            feeds, count = examples.cut(start, size, filled=False)
            made = _rows(run(feeds), size, count, filled=False)
            yield Part(made, {"label": labels[start : start + count]}, count)

    return fitting(lambda size: METRICS[USUAL].of(parts(size)), None)
