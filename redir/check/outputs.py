"""Whether two graphs compute the same, judged against a float64 reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np

from redir.channels.families import and_more
from redir.check.activity import active_share
from redir.check.equality import Bounds, Figures, judge, same_bytes
from redir.check.guarantees import constants
from redir.check.observed import Feeds, Observed
from redir.check.steps import by_pieces
from redir.errors import BadInput, Unsupported
from redir.ir import Graph, Value, expect_graph
from redir.ir.interpreter import evaluate
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Tensor
from redir.runtime.onnxruntime import Run, runner, stored_bytes
from redir.runtime.open_sizes import Shapes

__all__ = ["Verdict", "verify"]

Outcome = Literal["pass", "fail", "differs", "vacuous", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """``pass``, ``fail``, ``differs``, ``vacuous`` or ``skipped``, with the figures behind it.

    Differs is what a fail is called where nobody said how much is too much: see ``unjudged``.

    Vacuous: the outputs do not depend on what differs between the two, so that their being equal
    says nothing. Skipped: the first model cannot be run here. Where only the first can, or
    onnxruntime takes only the first, that is a fail, without figures. ``ties`` is the share of the
    results of steps (comparisons, roundings, places of the largest number) that fell the other way
    because their operands were within rounding of a threshold; the figures leave those out.
    ``active`` is the share of the channels of layers with new weights that were awake in the check,
    None where there are none; an error in those that slept is not seen.
    """

    verdict: Outcome
    reason: str = ""
    outputs: tuple[Figures, ...] = field(default=())
    ties: float = 0.0
    active: float | None = None

    @property
    def deviation(self) -> float:
        """The largest share of an output's magnitude that differs; endless without outputs."""
        if self.verdict == "fail" and not self.outputs:
            return np.inf
        return max((f.share for f in self.outputs), default=0.0)

    def unjudged(self) -> Verdict:
        """The verdict where no tolerance was asked for: what differs has not failed."""
        measured = self.outputs and all(np.isfinite(f.difference) for f in self.outputs)
        if self.verdict != "fail" or not measured:
            return self
        share = f"{self.deviation:.2g} of its magnitude" if self.deviation else "more than rounding"
        reason = f"by up to {share} ({self.reason}); no tolerance given"
        return replace(self, verdict="differs", reason=reason)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as ``verify --json`` prints it."""
        names = ("output", "difference", "own", "allowed", "scale")
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "deviation": finite(self.deviation),
            "ties": self.ties,
            "active": self.active,
            "outputs": [{n: finite(getattr(f, n)) for n in names} for f in self.outputs],
        }


def finite(number: Any) -> Any:
    """``number``, or None for an infinity or NaN, which JSON does not know."""
    return None if isinstance(number, float) and not np.isfinite(number) else number


def verify(  # noqa: PLR0913 - three tolerances, and what to draw
    a: Graph,
    b: Graph,
    feeds: Sequence[Feeds] | None = None,
    *,
    samples: int = 3,
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    error: float | None = None,
    input_shapes: Shapes | None = None,
) -> Verdict:
    """Compare ``b`` with ``a`` on ``feeds``, or on ``samples`` drawn ones of ``input_shapes``.

    Sizes that are open and not given are chosen so that the model fits.

    Without tolerances, ``b`` may be as far from the float64 reference of ``a`` as eight times ``a``
    itself, and 64 units in the last place of the output's magnitude. With any, ``|b - a|`` may be
    at most ``atol + rtol |a|`` and ``error`` times the largest ``|a|`` of the output.

    Raises:
        BadInput: the two have different inputs or outputs, a shape does not fit them, or one is
            no graph.
    """
    expect_graph(a)
    expect_graph(b)
    _same_names(a, b)
    asked = (rtol, atol, error)
    bounds = None if asked == (None, None, None) else Bounds(*(bound or 0.0 for bound in asked))
    try:
        first = Observed.of(a, feeds, samples, seed, input_shapes)
    except Unsupported as why:
        return Verdict("skipped", str(why))
    return compare(first, first.successor(b), bounds)


def compare(a: Observed, b: Observed, bounds: Bounds | None = None) -> Verdict:
    """The verdict on ``b`` as a successor of ``a``, which runs: see ``verify``."""
    try:
        pairs = list(zip(a.outputs, b.outputs, strict=True))
    except Unsupported as why:
        return Verdict("fail", f"only the first of the two runs: {why}")
    b.unload()  # what follows needs the memory
    same = all(_same(old, new) for old, new in pairs)
    references = [None] * len(pairs) if same else a.references
    figures, reason, ties = *_figures(pairs, references, bounds), 0.0
    if bounds is None and (reason or any(f.difference > f.rounding for f in figures)):
        figures, reason, ties = _by_pieces(a, b, figures, reason)
    if reason:
        return Verdict("fail", reason, figures)
    active = active_share(a, b)
    if _is_vacuous(a, b, figures):
        return Verdict("vacuous", _why_vacuous(a.outputs), figures, ties, active)
    return Verdict("pass", "", figures, ties, active)


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether outputs are the same to the bit, so that the truth need not be known."""
    pairs = [(a[name], b[name]) for name in a]
    return all(isinstance(x, np.ndarray) and same_bytes(x, np.asarray(y)) for x, y in pairs)


def _why_vacuous(found: Sequence[Mapping[str, Any]]) -> str:
    """Why moving what was changed moves no output."""
    arrays = [np.asarray(a) for row in found for a in row.values() if not isinstance(a, list)]
    floats = [a for a in arrays if a.dtype.kind == "f"]
    if floats and not any(np.isfinite(a).any() for a in floats):
        return (
            "the outputs are NaN or infinite on what was drawn: give arrays that the model is for"
        )
    return "the outputs do not depend on what was changed"


def _by_pieces(
    a: Observed, b: Observed, figures: tuple[Figures, ...], reason: str
) -> tuple[tuple[Figures, ...], str, float]:
    """The figures, the reason and the ties, between steps; the figures given where it fails."""
    pieces = by_pieces(a.graph, b.graph, a.feeds)
    if pieces is None:
        return figures, reason, 0.0
    found, why = _figures(pieces.pairs, pieces.references, None)
    if pieces.reason or why:
        parts = dict.fromkeys(filter(None, (reason, pieces.reason or why)))
        return figures, "; ".join(parts), 0.0
    return found, "", pieces.ties


def _same_names(a: Graph, b: Graph) -> None:
    for kind, old, new in (("inputs", a.inputs, b.inputs), ("outputs", a.outputs, b.outputs)):
        if list(old) != list(new):
            raise BadInput(f"the models have different {kind}: {_unlike(list(old), list(new))}")


def _unlike(old: list[str], new: list[str]) -> str:
    """How two lists of names differ, in a few words."""
    pairs = (("first", old, new), ("second", new, old))
    more = [(which, [n for n in a if n not in b]) for which, a, b in pairs]
    said = [f"only the {which} has {and_more(list(map(repr, n)))}" for which, n in more if n]
    return " and ".join(said) or "they come in another order"


def _figures(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    references: Sequence[dict[str, Any] | None],
    bounds: Bounds | None,
) -> tuple[tuple[Figures, ...], str]:
    found, reason = [], ""
    for name in pairs[0][0] if pairs else ():
        rows = [
            judge(name, old[name], new[name], (truth or {}).get(name), bounds)
            for (old, new), truth in zip(pairs, references, strict=True)
        ]
        worst, why = max(rows, key=lambda r: (bool(r[1]), r[0].share, r[0].difference))
        found.append(worst)
        reason = reason or why
    return tuple(found), reason


def _is_vacuous(a: Observed, b: Observed, figures: Sequence[Figures]) -> bool:
    """Whether moving every constant that ``b`` does not share moves no output of ``a``."""
    kept = set(constants(b.graph))
    floats = (t for t in constants(a.graph) if t.type.dtype.kind == "f")
    moved = list(dict.fromkeys(t for t in floats if t not in kept))
    if not moved or not figures:
        return False
    bounds = {f.output: f.allowed for f in figures}
    return not any(_moves(a, part, bounds) for part in _parts(moved))


def _parts(moved: Sequence[Tensor]) -> Iterator[set[Tensor]]:
    """The tensors, no more at a time than may be in memory twice; mostly the first part tells."""
    ends = np.cumsum([t.nbytes for t in moved]) // _LARGE
    for _, part in groupby(zip(ends, moved, strict=True), key=lambda pair: int(pair[0])):
        yield {tensor for _, tensor in part}


_LARGE = 2**26  # bytes


def _moves(a: Observed, moved: set[Tensor], bounds: Mapping[str, float]) -> bool:
    """Whether moving these constants moves an output of ``a``.

    A large model is not loaded once more in onnxruntime for that, but run here.
    """
    shaken = _shaken(a.graph, moved)
    feeds: Sequence[Feeds] = a.feeds
    before: Iterable[Mapping[str, Any]] = a.outputs
    run = runner
    if stored_bytes(a.graph) > _LARGE:
        run, feeds = _interpreted, feeds[:1]
        before = map(_interpreted(a.graph), feeds)
    pairs = zip(before, map(run(shaken), feeds), strict=True)
    return not all(_within(x[o], y[o], bound) for x, y in pairs for o, bound in bounds.items())


def _interpreted(graph: Graph) -> Run:
    return lambda feeds: evaluate(graph, feeds)


def _within(a: Any, b: Any, bound: float) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    return bool(np.all((np.abs(a - b) <= bound) | (a == b) | (np.isnan(a) & np.isnan(b))))


def _shaken(graph: Graph, moved: set[Tensor]) -> Graph:
    rng = np.random.default_rng(0)

    def shaken(_: Value, tensor: Tensor) -> Tensor | None:
        if tensor not in moved:
            return None
        array = tensor.array
        size = float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) or 1.0
        noise = rng.standard_normal(array.shape) * size
        return Tensor.take((array + noise).astype(array.dtype))

    return map_constants(graph, shaken)
