"""Metrics: what makes a number of outputs and targets, by name or a function of the user's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, log10
from typing import Any, NamedTuple

import numpy as np

from redir.errors import BadInput, RedirError
from redir.io import arrays, plugins
from redir.ir.tensor import Array

LABELS = (*arrays.LABELS, "target", "targets")
"""Names of arrays that are the targets of the first output."""

_VOID = 255  # the label of places that belong to no class


class Part(NamedTuple):
    """Some examples, ``size`` of them: what a model made of them, and what it should.

    Arrays are by name and have the examples first; of a model that gives each example arrays of
    another size, one example makes a part.
    """

    outputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    size: int


Judging = Callable[[Iterable[Part]], float]


@dataclass(frozen=True)
class Metric:
    """A number ``of`` what a model makes of examples; ``higher`` ones are better, or lower ones.

    Where ``alone``, the outputs of the original will do as targets.
    """

    name: str
    of: Judging
    higher: bool
    alone: bool


class Pair(NamedTuple):
    """An output of a model and its target."""

    name: str
    output: Array
    target: Array
    size: int

    def rows(self) -> list[tuple[Array, Array]]:
        """The output and the target of each example, in float64; of them all, if that is unclear.

        Raises:
            BadInput: they have other shapes.
        """
        if self.output.shape != self.target.shape:
            raise BadInput(
                f"output {self.name!r} is {list(self.output.shape)}, and its target "
                f"{list(self.target.shape)}"
            )
        both = self.output.astype(np.float64), self.target.astype(np.float64)
        if both[0].shape[:1] != (self.size,):
            return [both]
        return list(zip(*both, strict=True))


def _pairs(parts: Iterable[Part]) -> Iterator[Pair]:
    """The outputs that have targets, part by part; targets have names of outputs, or ``LABELS``."""
    for part in parts:
        first = next(iter(part.outputs))
        named = {first if n in LABELS and n not in part.outputs else n: a
                 for n, a in part.targets.items()}  # fmt: skip
        for name in sorted(named.keys() - part.outputs.keys()):
            known = ", ".join(map(repr, part.outputs))
            raise BadInput(f"the model has no input or output {name!r}: it gives {known}")
        for name, target in named.items():
            yield Pair(name, np.asarray(part.outputs[name]), np.asarray(target), part.size)


def _top(most: int, parts: Iterable[Part]) -> float:
    """The share of examples whose label is among the ``most`` largest scores."""
    right = count = 0
    for pair in _pairs(parts):
        labels = _whole(pair)
        if labels.shape != (pair.size,):
            raise BadInput(f"labels are {list(labels.shape)}: expected one for each example")
        scores = _scores(pair).reshape(pair.size, -1)
        if labels.max() >= scores.shape[1]:
            raise BadInput(
                f"labels go up to {labels.max()}, and output {pair.name!r} has scores of "
                f"{scores.shape[1]} classes"
            )
        guesses = np.argsort(-scores.astype(np.float64), 1, kind="stable")[:, :most]
        right += int((guesses == labels[:, None]).any(1).sum())
        count += pair.size
    return right / count


def _whole(pair: Pair) -> Array:
    if pair.target.dtype.kind not in "iu":
        raise BadInput(f"labels are {pair.target.dtype}: expected whole numbers")
    return pair.target


def _scores(pair: Pair) -> Array:
    if pair.output.shape[:1] != (pair.size,):
        raise BadInput(
            f"output {pair.name!r} is {list(pair.output.shape)}: expected scores for each of "
            f"{pair.size} examples"
        )
    return pair.output


def _miou(parts: Iterable[Part]) -> float:
    """The mean, over the classes that occur, of the overlap over the union of their places."""
    both, either = Counter[int](), Counter[int]()
    for pair in _pairs(parts):
        target = _whole(pair)
        guess = _classes(pair, target.shape)
        known = (target >= 0) & (target != _VOID)
        guess, target = guess[known], target[known]
        for classes, found in ((guess, either), (target, either), (guess[guess == target], both)):
            values, counts = np.unique(classes, return_counts=True)
            found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    either.subtract(both)
    if not either:
        raise BadInput("no place of the targets belongs to a class")
    return float(np.mean([both[one] / count for one, count in either.items()]))


def _classes(pair: Pair, shape: Sequence[int]) -> Array:
    """The class of each place: of whole numbers as they are, of scores the largest one's."""
    if pair.output.dtype.kind in "iu" and pair.output.shape == shape:
        return pair.output
    for axis in (1, pair.output.ndim - 1):
        sizes = list(pair.output.shape)
        if axis < len(sizes) and sizes.pop(axis) > 1 and sizes == list(shape):
            most = max((c for c in np.unique(pair.target).tolist() if c != _VOID), default=0)
            if most >= pair.output.shape[axis]:
                raise BadInput(
                    f"the targets have a class {most}, and output {pair.name!r} scores of "
                    f"{pair.output.shape[axis]}"
                )
            return np.asarray(pair.output.argmax(axis))
    raise BadInput(
        f"output {pair.name!r} is {list(pair.output.shape)}, and its target {list(shape)}: "
        "expected classes, or scores of them along one axis more"
    )


def _cosine(parts: Iterable[Part]) -> float:
    """The mean cosine of an example's output and its target, each taken as one vector."""
    found = [_angle(a.reshape(-1), b.reshape(-1)) for p in _pairs(parts) for a, b in p.rows()]
    return float(np.mean(found))


def _angle(a: Array, b: Array) -> float:
    sizes = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0.0 in sizes:
        return float(sizes[0] == sizes[1])
    return float(np.clip((a / sizes[0]) @ (b / sizes[1]), -1, 1))


def _mse(parts: Iterable[Part]) -> float:
    """The mean squared difference; of several outputs, the mean of theirs."""
    found: dict[str, list[float]] = {}
    for pair in _pairs(parts):
        held = found.setdefault(pair.name, [0.0, 0.0])
        for a, b in pair.rows():
            held[0] += float(np.square(a - b).sum())
            held[1] += a.size
    return float(np.mean([total / count for total, count in found.values() if count]))


def _psnr(parts: Iterable[Part]) -> float:
    """The squared range of the targets over the mean squared difference, in dB."""
    found: dict[str, list[float]] = {}
    for pair in _pairs(parts):
        low, high = (0.0, 255.0) if pair.target.dtype == np.uint8 else (inf, -inf)
        held = found.setdefault(pair.name, [0.0, 0.0, low, high])
        for a, b in pair.rows():
            held[0] += float(np.square(a - b).sum())
            held[1] += a.size
            held[2:] = min(held[2], float(b.min())), max(held[3], float(b.max()))
    return float(np.mean([_ratio(name, *held) for name, held in found.items()]))


def _ratio(name: str, total: float, count: float, low: float, high: float) -> float:
    if not high > low:
        raise BadInput(f"the targets of {name!r} are all the same: PSNR needs their range")
    return 10 * log10((high - low) ** 2 * count / total) if total else inf


METRICS: Mapping[str, Metric] = {
    found.name: found
    for found in (
        Metric("top1", partial(_top, 1), higher=True, alone=False),
        Metric("top5", partial(_top, 5), higher=True, alone=False),
        Metric("psnr", _psnr, higher=True, alone=True),
        Metric("cosine", _cosine, higher=True, alone=True),
        Metric("mse", _mse, higher=False, alone=True),
        Metric("miou", _miou, higher=True, alone=False),
    )
}
USUAL = "top1"


def metric(name: str) -> Metric:
    """The metric of a name, or that of ``package.module:function``, which is imported.

    The function takes outputs and targets, both arrays by name, and gives a number. Its attribute
    ``higher_is_better`` says which are better.

    Raises:
        BadInput: there is none, or the function does not say that.
    """
    if name in METRICS:
        return METRICS[name]
    if not plugins.is_named(name):
        raise BadInput(
            f"no metric is called {name!r}; there are {', '.join(METRICS)} and "
            "package.module:function"
        )
    function = plugins.imported(name)
    higher = getattr(function, "higher_is_better", None)
    if not callable(function) or not isinstance(higher, bool):
        said = f"{name.rpartition(':')[2]}.higher_is_better = True, or False"
        raise BadInput(f"metric {name}: expected a function that says which numbers are better: "
                       f"{said}")  # fmt: skip
    return Metric(name, partial(_given, name, function), higher, alone=True)


def _given(name: str, function: Callable[..., Any], parts: Iterable[Part]) -> float:
    held = list(parts)
    outputs = _joined([part.outputs for part in held], held)
    targets = _joined([part.targets for part in held], held)
    try:
        return float(function(outputs, targets))
    except RedirError:
        raise
    except Exception as error:  # whatever a function of others raises
        raise BadInput(f"metric {name} fails with {type(error).__name__}: {error}") from error


def _joined(held: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> dict[str, Any]:
    """The arrays of all examples by name; lists with one for each part, where sizes differ."""
    return {name: _one([np.asarray(each[name]) for each in held], parts) for name in held[0]}


def _one(arrays: Sequence[Array], parts: Sequence[Part]) -> Any:
    same = len({array.shape[1:] for array in arrays}) == 1
    each = all(a.shape[:1] == (p.size,) for a, p in zip(arrays, parts, strict=True))
    return np.concatenate(arrays) if same and each else list(arrays)
