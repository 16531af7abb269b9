"""What an error in a layer does to the outputs: what noise does, and what some forms do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redir import ops
from redir.cost import Sizes
from redir.ir import Node
from redir.ir.tensor import Array, Type
from redir.passes.factorize.forms import Factoring
from redir.passes.factorize.gone import Gone
from redir.passes.factorize.solving import Seen
from redir.progress import progress
from redir.statistics.brief import Brief
from redir.statistics.judge import Judge
from redir.statistics.rest import Made, Rest
from redir.statistics.stretches import Stretches
from redir.statistics.walk import Held, walk

_NOISE = 0.01  # of the variance of a layer's result
_SMALL = 0.5  # of a layer, up to where errors are taken to count in proportion
_ERRORS = (0.02, 0.1, 0.3)  # of a layer, at which what it does is measured

Ways = Mapping[Node, tuple[Factoring, Array]]


@dataclass(frozen=True, eq=False)
class Effect:
    """How far the outputs go, in shares of their variance, for an error of one layer.

    ``noise`` is how far for each unit of error, as a little noise says; ``moved`` how far they were
    seen to go at some ``errors``, from 0 to 1: at 1 where the layer may be gone.
    """

    noise: float
    errors: Array
    moved: Array

    def moved_by(self, error: float) -> float:
        """How far they go, by what was seen."""
        return float(np.interp(error, self.errors, self.moved))

    def felt(self, error: float) -> float:
        """What an error counts, by the root of what noise does.

        To lose all counts as much as noise that moves the outputs as far as that does.
        """
        root = float(np.sqrt(self.noise))
        return float(self.moved[-1]) / root if error == 1 and root > 0 else root * error


def effects(
    judge: Judge,
    ways: Ways,
    gone: Mapping[Node, Gone],
    seen: Mapping[Node, Seen],
    seed: int,
    known: Mapping[Node, float],
) -> dict[Node, Effect]:
    """What an error of each layer does; only what is behind it is run again.

    ``ways`` have a form of each layer, with what it loses at each rank; some may be ``gone``. Of
    some it is ``known`` for each unit of error: of these only what it does that they are gone.
    """
    layers, found = {judge.twins[node]: node for node in ways}, dict[Node, Effect]()
    brief, sizes = Brief.of(judge, layers), _sizes(judge)
    stretches = Stretches(brief.graph)

    def step(twin: Node, _: list[list[Any]], held: Held) -> list[Sequence[Any]] | None:
        node = layers.get(twin)
        if node is not None and node in known:
            rest = Rest.behind(stretches, twin, held) if node in gone else None
            found[node] = _known(known[node], ended(node, rest) if rest else 0.0)
        elif node is not None:
            rng = np.random.default_rng([seed, len(found)])
            (form, errors), was, rest = ways[node], seen[node], Rest.behind(stretches, twin, held)
            noisy = _noisy(node, sizes.type(twin.outputs[0]), was.spread, rng)
            noise = brief.far(rest.outputs(judge.on(node, noisy))) / _NOISE
            ranks = _ranks(errors)
            factors = (form.rough(rank, was.moments) for rank in ranks)
            moved = [brief.far(rest.outputs(judge.on(node, each.on))) for each in factors]
            ends = [ended(node, rest)] if node in gone else []
            found[node] = _effect(noise, [*errors[ranks], *(1 for _ in ends)], moved + ends)
        return None

    def ended(node: Node, rest: Rest) -> float:
        factors = gone[node].rough(0, seen[node].moments)
        return brief.far(rest.outputs(judge.on(node, factors.on)))

    walk(brief.graph, judge.batches, step, "effects of errors")
    return found


def effects_together(
    judge: Judge, ways: Ways, seen: Mapping[Node, Seen], seed: int
) -> dict[Node, Effect]:
    """What an error of layers that read the same weights does, where all of them err at once.

    What one of them does adds to what those before it did, so it is no sum. ``ways`` are of the
    first of each.
    """
    sizes, found = _sizes(judge), dict[Node, Effect]()
    for node, (form, errors) in progress(ways.items(), "effects of errors in several places"):
        rng, was = np.random.default_rng([seed, len(found), len(form.also)]), seen[node]
        nodes, ranks = [each.layer.node for each in form.alike], _ranks(errors)
        types = (sizes.type(judge.twins[each].outputs[0]) for each in nodes)
        noisy = {n: _noisy(n, y, was.spread, rng) for n, y in zip(nodes, types, strict=True)}
        rough = (form.rough(rank, was.moments) for rank in ranks)
        tried: list[Mapping[Node, Made]] = [noisy, *(dict.fromkeys(nodes, f.on) for f in rough)]
        noise, *moved = (sum(judge.moved(made).values()) for made in tried)
        found[node] = _effect(noise / _NOISE, errors[ranks].tolist(), moved)
    return found


def _effect(noise: float, errors: Sequence[float], moved: Sequence[float]) -> Effect:
    """The effect by what was seen, which grows, and is in proportion beyond the last."""
    last = moved[-1] / errors[-1] if moved else noise
    return Effect(noise, np.array([0, *errors, 1]), np.maximum.accumulate([0, *moved, last]))


def _known(each: float, gone: float) -> Effect:
    """The effect of a layer that moves the outputs so far for ``each`` unit of a small error."""
    moved = np.array([0, _SMALL * each, max(gone, each)])
    return Effect(each, np.array([0, _SMALL, 1]), moved)


def _ranks(errors: Array) -> list[int]:
    """The ranks at which a form loses about so much: the first loses least."""
    found = {int(np.sum(errors > error)) for error in _ERRORS}
    return sorted((n for n in found if n < len(errors) and 0 < errors[n] < 1), reverse=True)


def _sizes(judge: Judge) -> Sizes:
    """The sizes of the batches, but those in which they differ."""
    first, *others = ({name: array.shape for name, array in b.items()} for b in judge.batches)
    alike = all(
        {n: s[1:] for n, s in b.items()} == {n: s[1:] for n, s in first.items()} for b in others
    )
    return Sizes(judge.graph, first if alike else {})


def _noisy(node: Node, y: Type, spread: Array, rng: np.random.Generator) -> Made:
    """A layer with noise in its result, of type ``y``, the same for every example."""
    shape = [1, *(y.size(axis) or 1 for axis in range(1, len(y.shape or ())))]
    along = [1] * len(shape)
    along[1 if node.op == ops.Conv else -1] = -1
    noise = rng.standard_normal(shape) * spread.reshape(along) * np.sqrt(_NOISE)
    added = ops.constant(noise.astype(y.dtype))
    return lambda x: ops.Add(node.on((x, *node.inputs[1:])).outputs[0], added)
