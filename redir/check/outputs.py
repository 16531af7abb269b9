"""Whether two graphs compute the same, judged against a float64 reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from redir.channels.families import and_more
from redir.check.activity import active_share
from redir.check.guarantees import constants
from redir.check.steps import by_pieces
from redir.errors import BadInput, Unsupported
from redir.ir import Graph, Value, expect_graph
from redir.ir.interpreter import evaluate
from redir.ir.rewriter import map_constants
from redir.ir.tensor import Array, Tensor
from redir.runtime.float64 import widened
from redir.runtime.inputs import runnable
from redir.runtime.onnxruntime import Session, runner, session
from redir.runtime.open_sizes import Shapes

Feeds = Mapping[str, Array]


Outcome = Literal["pass", "fail", "differs", "vacuous", "skipped"]


class _Bounds(NamedTuple):
    rtol: float
    atol: float
    error: float


@dataclass(frozen=True)
class Figures:
    """What was seen of one output in the sample where it differs most, as a share.

    ``difference``: between the two models; ``own``: of the first from the float64 reference;
    ``allowed``: what was tolerated; ``scale``: the largest magnitude of the output.
    """

    output: str
    difference: float
    own: float
    allowed: float
    scale: float

    @property
    def share(self) -> float:
        """The difference as a share of the output's magnitude."""
        return self.difference / (self.scale or 1.0)


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
        """The largest difference as a share of its output's magnitude; endless without outputs."""
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
        rows = [asdict(f) for f in self.outputs]
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "deviation": finite(self.deviation),
            "ties": self.ties,
            "active": self.active,
            "outputs": [{k: finite(v) for k, v in row.items()} for row in rows],
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
    itself, and 64 units in the last place of the output's magnitude. With any, |b - a| may be at
    most atol + rtol |a| + error times the largest |a| of the output.

    Raises:
        BadInput: the two have different inputs or outputs, a shape does not fit them, or one is
            no graph.
    """
    expect_graph(a)
    expect_graph(b)
    _same_names(a, b)
    try:
        run = runner(a)
        given = (
            list(feeds)
            if feeds is not None
            else list(runnable(a, run, samples, seed, input_shapes))
        )
        old = [run(f) for f in given]
    except Unsupported as why:
        return Verdict("skipped", str(why))
    try:
        other = session(b) if isinstance(run, Session) else runner(b)
        pairs = [(known, other(f)) for known, f in zip(old, given, strict=True)]
    except Unsupported as why:
        return Verdict("fail", f"only the first of the two runs: {why}")
    references = [_reference(a, f) for f in given]
    asked = (rtol, atol, error)
    bounds = None if asked == (None, None, None) else _Bounds(*(bound or 0.0 for bound in asked))
    figures, reason = _figures(pairs, references, bounds)
    ties = 0.0
    if bounds is None and (reason or _is_rough(figures)):
        figures, reason, ties = _by_pieces(a, b, given, figures, reason)
    if reason:
        return Verdict("fail", reason, figures)
    active = active_share(a, b, given)
    if _is_vacuous(a, b, given, pairs, figures):
        return Verdict("vacuous", _why_vacuous(old), figures, ties, active)
    return Verdict("pass", "", figures, ties, active)


def _why_vacuous(found: Sequence[Mapping[str, Any]]) -> str:
    """Why moving what was changed moves no output."""
    arrays = [np.asarray(a) for row in found for a in row.values() if not isinstance(a, list)]
    floats = [a for a in arrays if a.dtype.kind == "f"]
    if floats and not any(np.isfinite(a).any() for a in floats):
        return (
            "the outputs are NaN or infinite on what was drawn: give arrays that the model is for"
        )
    return "the outputs do not depend on what was changed"


def _is_rough(figures: Sequence[Figures]) -> bool:
    """Whether outputs differ by more than the rounding of their magnitude."""
    return any(f.difference > f.allowed - 8 * f.own for f in figures)


def _by_pieces(
    a: Graph, b: Graph, feeds: Sequence[Feeds], figures: tuple[Figures, ...], reason: str
) -> tuple[tuple[Figures, ...], str, float]:
    """The figures, the reason and the ties, between steps; the figures given where it fails."""

    def compare(name: str, x: Any, y: Any, truth: Any) -> tuple[float, str]:
        found, why = _compare(name, x, y, truth, None)
        return found.allowed, why

    pieces = by_pieces(a, b, feeds, runner, lambda g: partial(_reference, g), compare)
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


def _reference(graph: Graph, feeds: Feeds) -> dict[str, Any] | None:
    """The float64 outputs; None where an operator cannot be run so."""
    wide = widened(graph)
    kinds = {name: v.type.dtype for name, v in wide.inputs.items()}
    try:
        return evaluate(wide, {name: array.astype(kinds[name]) for name, array in feeds.items()})
    except Unsupported:
        return None


def _figures(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    references: Sequence[dict[str, Any] | None],
    bounds: _Bounds | None,
) -> tuple[tuple[Figures, ...], str]:
    found, reason = [], ""
    for name in pairs[0][0] if pairs else ():
        rows = [
            _compare(name, old[name], new[name], (reference or {}).get(name), bounds)
            for (old, new), reference in zip(pairs, references, strict=True)
        ]
        worst, why = max(rows, key=lambda r: (bool(r[1]), r[0].share, r[0].difference))
        found.append(worst)
        reason = reason or why
    return tuple(found), reason


def _compare(
    name: str, a: Any, b: Any, reference: Any, bounds: _Bounds | None
) -> tuple[Figures, str]:
    if isinstance(a, list):  # a sequence: item by item, the worst counts
        if len(a) != len(b):
            return Figures(name, np.inf, 0.0, 0.0, 0.0), f"{name}: {len(a)} items became {len(b)}"
        items = [_compare(name, i, j, None, bounds) for i, j in zip(a, b, strict=True)]
        return max(
            items,
            key=lambda i: (bool(i[1]), i[0].difference),
            default=(Figures(name, 0, 0, 0, 0), ""),
        )
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        kinds = f"{a.dtype}{list(a.shape)} became {b.dtype}{list(b.shape)}"
        return Figures(name, np.inf, 0.0, 0.0, 0.0), f"{name}: {kinds}"
    if a.dtype.kind not in "fV" or a.size == 0:
        same = bool(np.all(a == b))
        return Figures(name, float(not same), 0, 0, 1), "" if same else f"{name} differs"
    return _compare_floats(name, a, b, reference, bounds)


def _compare_floats(
    name: str, a: Array, b: Array, reference: Any, bounds: _Bounds | None
) -> tuple[Figures, str]:
    truth = a if reference is None else np.asarray(reference)
    truth = truth.astype(np.float64) if truth.shape == a.shape else a.astype(np.float64)
    eps = float(np.finfo(a.dtype).eps) if a.dtype.kind == "f" else 2.0**-7
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    odd = ~(np.isfinite(wide_a) & np.isfinite(wide_b))
    if not np.array_equal(wide_a[odd], wide_b[odd], equal_nan=True):
        return Figures(
            name, np.inf, 0.0, 0.0, 0.0
        ), f"{name}: NaN or infinity became something else"
    wide_a, wide_b, truth = wide_a[~odd], wide_b[~odd], truth[~odd]
    truth = np.where(np.isfinite(truth), truth, wide_a)
    scale, own, far, difference = (
        float(np.max(np.abs(d), initial=0.0))
        for d in (wide_a, wide_a - truth, wide_b - truth, wide_b - wide_a)
    )
    if bounds is None:
        allowed, excess = 8 * own + 64 * eps * scale, far
    else:
        fixed = bounds.atol + bounds.error * scale
        allowed = fixed + bounds.rtol * scale
        over = np.abs(wide_b - wide_a) - (fixed + bounds.rtol * np.abs(wide_a))
        excess = allowed + float(np.max(over, initial=0.0))
    figures = Figures(name, difference, own, allowed, scale)
    return (
        figures,
        "" if excess <= allowed else f"{name} differs by {difference:.3g} of {scale:.3g}",
    )


def _is_vacuous(
    a: Graph,
    b: Graph,
    feeds: Sequence[Feeds],
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    figures: Sequence[Figures],
) -> bool:
    """Whether moving every constant that ``b`` does not share moves no output of ``a``."""
    kept = {t.digest for t in constants(b)}
    moved = {t for t in constants(a) if t.digest not in kept and t.array.dtype.kind == "f"}
    if not moved or not figures:
        return False
    run = runner(_shaken(a, moved))
    allowed = {f.output: f.allowed for f in figures}
    for given, (old, _) in zip(feeds, pairs, strict=True):
        new = run(given)
        for name, bound in allowed.items():
            if not _within(old[name], new[name], bound):
                return False
    return True


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
