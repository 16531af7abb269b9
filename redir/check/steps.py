"""Comparing two graphs piece by piece, between the steps that a last bit may tip.

Where a result jumps (a comparison, a Round, an ArgMax), two models that are the same but for
rounding may part. So the second is run with the results of the steps of the first in place of its
own: each piece between steps is then compared as floats are, and a step by what feeds it: its
results may differ only where its operands, moved by no more than rounding, give both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from redir.check.equality import judge
from redir.check.observed import attempt, reference
from redir.errors import RedirError
from redir.ir import Graph, Node, Value
from redir.ir.tensor import NO_DTYPE, Array, shapes_agree
from redir.ops import is_absent, tensor_of
from redir.runtime.onnxruntime import Run, runner

Feeds = Mapping[str, Any]


@dataclass
class Pieces:
    """What a comparison by pieces found.

    ``pairs`` are the outputs of both for each of the feeds, the second behind the steps of the
    first, and ``references`` what the reference computes there, None where it cannot. ``reason``
    says which step differs elsewhere than at a tie; ``tied`` of ``count`` results differ at one.
    """

    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    references: list[dict[str, Any] | None] = field(default_factory=list)
    reason: str = ""
    tied: int = 0
    count: int = 0

    @property
    def ties(self) -> float:
        """The share of the results of steps that fell the other way."""
        return self.tied / self.count if self.count else 0.0


def by_pieces(a: Graph, b: Graph, feeds: Sequence[Feeds]) -> Pieces | None:
    """Compare ``b`` with ``a``; None where they have no steps, or not the same."""
    steps = _paired(a, b)
    if not steps:
        return None
    theirs = {node: str(i) for i, node in enumerate(_steps(a))}
    labels = {new: theirs[old] for new, old in steps.items()}
    found = Pieces()
    try:
        first, second = _seen(a, theirs, runner), _seen(b, labels, runner, cut=True)
        truth = _seen(a, theirs, reference, cut=True)
        for given in feeds:
            mine = first.read(given)
            forced = {n: mine[n] for label in theirs.values() for n in _results(label, mine)}
            known = attempt(truth.read, {**given, **forced})
            other = second.read({**given, **forced})
            for node, label in labels.items():
                _judge(node, label, (mine, other, known or {}), found)
            found.pairs.append((_outputs(a, mine), _outputs(a, other)))
            found.references.append(None if known is None else _outputs(a, known))
    except RedirError:
        return None  # a piece does not run alone
    return found


def _outputs(graph: Graph, seen: Mapping[str, Any]) -> dict[str, Any]:
    return {name: seen[f"output {name}"] for name in graph.outputs}


def _results(label: str, seen: Mapping[str, Any]) -> Iterator[str]:
    return (key for key in seen if key.startswith(f"step {label} result "))


# Which steps there are


def _steps(graph: Graph) -> list[Node]:
    """The nodes that jump, and read floats that depend on the inputs."""
    moving = set(graph.inputs.values())
    found = []
    for node in graph.nodes:
        if not moving.isdisjoint(node.inputs):
            moving.update(node.outputs)
            floats = any(v in moving and _is_float(v) for v in node.inputs)
            known = all(v.type.dtype != NO_DTYPE for v in node.outputs)
            if floats and known and node.op.step(node) is not None:
                found.append(node)
    return found


def _is_float(value: Value) -> bool:
    return value.type.dtype.kind == "f" or "float" in value.type.dtype.name


def _paired(a: Graph, b: Graph) -> dict[Node, Node] | None:
    """For each step of ``b`` that of ``a``: of the same name, or else in the same place."""
    old, new = _steps(a), _steps(b)
    known, counts = {n.name: n for n in old}, Counter(n.name for n in (*old, *new) if n.name)
    pairs = {n: known[n.name] for n in new if n.name in known and counts[n.name] == 2}  # noqa: PLR2004
    pairs = {n: o for n, o in pairs.items() if n.op == o.op}
    taken = set(pairs.values())
    for op in {n.op for n in new}:
        rest = [n for n in new if n.op == op and n not in pairs]
        others = [n for n in old if n.op == op and n not in taken]
        if rest and len(rest) != len(others):
            return None
        pairs.update(zip(rest, others, strict=False))
    return pairs if all(_alike(n, o) for n, o in pairs.items()) else None


def _alike(a: Node, b: Node) -> bool:
    """Whether the results of one may stand for those of the other."""
    return a.arity == b.arity and all(
        v.type.dtype == w.type.dtype
        and v.rank == w.rank
        and shapes_agree(v.type.shape, w.type.shape)
        for v, w in zip(a.outputs, b.outputs, strict=True)
    )


# Running them


@dataclass(frozen=True)
class _Seen:
    """A graph that gives all that is looked at: what is called ``places[what]`` there."""

    graph: Graph
    places: Mapping[str, str | Array]
    run: Run

    def read(self, feeds: Feeds) -> dict[str, Any]:
        needed = {name: feeds[name] for name in self.graph.inputs if name in feeds}
        defaults = {name: t.array for name, t in self.graph.defaults.items()}
        known = {**defaults, **needed, **self.run(needed)}
        return {
            what: known[place] if isinstance(place, str) else place
            for what, place in self.places.items()
        }


def _seen(
    graph: Graph, labels: Mapping[Node, str], make: Callable[[Graph], Run], *, cut: bool = False
) -> _Seen:
    """``graph`` with what its steps read and give; where ``cut``, what they give is an input."""
    env: dict[Value, Value] = {}
    forced: dict[str, Value] = {}
    looked: dict[str, Value] = {}
    for node in graph.nodes:
        new = node.on(env.get(v, v) for v in node.inputs)
        values = new.outputs
        if node in labels:
            start = f"step {labels[node]}"
            looked.update({f"{start} operand {i}": v for i, v in enumerate(new.inputs)})
            looked.update({f"{start} own {i}": v for i, v in enumerate(values)})
            if cut:
                values = tuple(Value(v.type) for v in values)
                forced.update({f"{start} result {i}": v for i, v in enumerate(values)})
            looked.update({f"{start} result {i}": v for i, v in enumerate(values)})
        env.update(zip(node.outputs, values, strict=True))
    looked.update({f"output {name}": env.get(v, v) for name, v in graph.outputs.items()})
    inputs = {**graph.inputs, **forced}
    names: dict[Value, str] = {v: name for name, v in inputs.items()}
    outputs: dict[str, Value] = {}
    places: dict[str, str | Array] = {}
    for what, value in looked.items():
        tensor = tensor_of(value)
        if tensor is not None:
            places[what] = tensor.array
        elif not is_absent(value):
            if value not in names:
                names[value] = f"seen {len(outputs)}"
                outputs[names[value]] = value
            places[what] = names[value]
    probe = replace(graph, inputs=inputs, outputs=outputs, shell=b"")
    return _Seen(probe, places, make(probe))


# Judging them


def _judge(
    node: Node,
    label: str,
    seen: tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]],
    found: Pieces,
) -> None:
    """Note whether a step of the second graph differs from that of the first at ties only."""
    mine, other, known = seen
    results = [mine[key] for key in _results(label, mine)]
    own = [other[f"step {label} own {i}"] for i in range(len(results))]
    found.count += max((np.size(r) for r in results), default=0)
    if not any(map(_differing, results, own)):
        return
    keys = [f"step {label} operand {i}" for i in range(len(node.inputs))]
    slacks, why = [], ""
    for key, value in zip(keys, node.inputs, strict=True):
        if key not in other or tensor_of(value) is not None or not _is_float(value):
            slacks.append(0.0)
            continue
        figures, reason = judge(f"what {node} reads", mine.get(key), other[key], known.get(key))
        slacks.append(figures.allowed)
        why = why or reason
    found.tied += max(_differing(a, b, sum(slacks)) for a, b in zip(results, own, strict=True))
    rule = node.op.step(node)
    arrays = [other.get(key) for key in keys]
    if not why and not (rule is not None and _explained(rule, node, arrays, slacks, results)):
        why = f"{node} gives something else where its operand is not at a tie"
    found.reason = found.reason or why


def _explained(
    rule: Callable[..., bool],
    node: Node,
    arrays: Sequence[Any],
    slacks: Iterable[float],
    results: Sequence[Any],
) -> bool:
    try:
        return rule(node, arrays, slacks, results)
    except RedirError:
        return False


def _differing(a: Any, b: Any, reach: float = 0.0) -> int:
    """How many numbers differ, floats by more than ``reach``; all of them where the shapes do."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return int(a.size) or 1
    differ = (a != b) & ~((a != a) & (b != b))  # noqa: PLR0124 - NaN, of any float
    if reach and a.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # of two infinities
            differ &= ~(np.abs(a.astype(np.float64) - b) <= reach)
    return int(np.sum(differ))
