"""redir's own instruments of a run: they check promises, compare outputs, print and explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from redir.check.guarantees import SAME_OUTPUTS
from redir.check.observed import Observed
from redir.check.outputs import Outcome, Verdict, compare
from redir.errors import Broken, Unsupported
from redir.ir import Graph
from redir.pipeline.pipeline import check_promises
from redir.pipeline.runner import Instrument, Ran
from redir.runtime.onnxruntime import stored_bytes
from redir.runtime.open_sizes import Shapes

Say = Callable[[str], object]


@dataclass(frozen=True)
class Step:
    """One pass of a run: its time in seconds, and how far it moved the outputs.

    ``deviation`` is the largest difference as a share of the output's magnitude; None where the
    model cannot be run. ``verdict`` is that of a pass that promises the same outputs. ``ties`` is
    the share of the results of steps that fell the other way, which the deviation leaves out.
    A pass that ``waits`` is compared only with what the passes behind it give.
    """

    name: str
    seconds: float
    changed: bool
    deviation: float | None
    verdict: Outcome | None
    ties: float = 0.0
    waits: bool = False

    @property
    def moved(self) -> str:
        """The deviation for people, and the share of ties if there are any."""
        if not self.changed:
            return "unchanged"
        if self.waits:
            return "see below"
        if self.deviation is None:
            return "not run"
        return f"{self.deviation:.1e}" + (f", {100 * self.ties:.2g}% ties" if self.ties else "")


def _step(ran: Ran, found: Verdict, *, exact: bool) -> Step:
    moved = None if found.verdict == "skipped" else found.deviation
    outcome = found.verdict if exact else None
    return Step(str(ran.step), ran.seconds, ran.changed, moved, outcome, found.ties)


def _refuse(ran: Ran, found: Verdict, *, exact: bool) -> None:
    """Stop a pass that promises the same outputs and changed them, or made what does not run."""
    if found.verdict == "fail" and (exact or not found.outputs):
        what = "changed the outputs" if found.outputs else "made a model that does not run"
        raise Broken(f"{ran.step} {what} and was stopped: {found.reason}")


def _is_large(graph: Graph) -> bool:
    """Whether running a graph takes longer than most passes on it."""
    return stored_bytes(graph) >= _LARGE


_LARGE = 2**26  # bytes of constants


@dataclass
class Outputs:
    """Compares the outputs before and after each pass, on ``samples`` inputs that are drawn once.

    ``steps`` are what it found of the passes, and ``verdicts`` those on the ones that changed
    something, each with whether the pass promises the same outputs. ``seen`` are the original and
    the latest graph, or nothing where the original cannot be run, and ``why``.

    Where a pass gives inputs or outputs another meaning, what it gave is compared with the graph
    before in these terms, and so is what is behind it.

    Passes of a large model that promise the same outputs are compared together, in ``settle``, and
    one by one only to say which of them broke its promise; all are where ``each`` is asked for.
    """

    samples: int = 2
    seed: int = 0
    input_shapes: Shapes | None = None
    each: bool = False
    steps: list[Step] = field(default_factory=list)
    verdicts: list[tuple[Verdict, bool]] = field(default_factory=list)
    seen: list[Observed] = field(default_factory=list)
    why: str = ""
    waiting: list[Ran] = field(default_factory=list)

    def __call__(self, ran: Ran) -> None:
        """Compare what a pass gave with what it was given.

        Raises:
            BadInput: a shape does not fit the graph.
            Broken: the pass promises the same outputs and changed them, or made what does not run.
        """
        given = ran.step.restated(ran.before)
        if not self.steps or given is not ran.before:
            self.settle()
            self._draw(given)
        exact = any(promise.refute == SAME_OUTPUTS.refute for promise in ran.step.guarantees)
        if exact and ran.changed and self.seen and not self.each and _is_large(ran.before):
            self.waiting.append(ran)
            self.steps.append(Step(str(ran.step), ran.seconds, ran.changed, None, None, waits=True))
            return
        if ran.changed:
            self.settle()
        found = self._verdict(ran.after) if ran.changed else Verdict("pass")
        _refuse(ran, found, exact=exact)
        self.steps.append(_step(ran, found, exact=exact))
        self.verdicts += [(found, exact)] if ran.changed else []

    def settle(self) -> None:
        """Compare what the passes gave that wait with what the first of them was given.

        Raises:
            Broken: one of them changed the outputs, or made what does not run.
        """
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        before = self.seen[-1]
        found = self._verdict(waiting[-1].after)
        for ran in waiting if found.verdict == "fail" else ():
            after = before.successor(ran.after)
            _refuse(ran, compare(before, after), exact=True)
            before = after
        last = max(i for i, step in enumerate(self.steps) if step.waits)
        self.steps[last] = _step(waiting[-1], found, exact=True)
        self.verdicts.append((found, True))

    def _draw(self, graph: Graph) -> None:
        try:
            self.seen = [Observed.of(graph, None, self.samples, self.seed, self.input_shapes)]
        except Unsupported as error:
            self.why = str(error)

    def _verdict(self, after: Graph) -> Verdict:
        """The verdict on the next graph."""
        if not self.seen:
            return Verdict("skipped", self.why)
        before = self.seen[-1]
        self.seen[1:] = [before.successor(after)]
        return compare(before, self.seen[-1])

    def whole(self) -> Verdict:
        """The verdict on all passes together."""
        self.settle()
        if len(self.verdicts) > 1 and self.seen:
            return compare(self.seen[0], self.seen[-1])
        return self.verdicts[0][0] if self.verdicts else Verdict("pass")


def promises(*, numeric: bool) -> Instrument:
    """What checks the promises of each pass; ``numeric`` also those that need a run."""
    return lambda ran: check_promises(ran.step, ran.before, ran.after, numeric=numeric)


def print_ir(which: str, say: Say) -> Instrument:
    """What gives ``say`` the textual form behind the pass called ``which``, or behind ``all``."""

    def instrument(ran: Ran) -> None:
        if which in {"all", ran.step.name}:
            say(f"# after {ran.step}\n{ran.after!r}")

    return instrument


def explain(say: Say) -> Instrument:
    """What gives ``say`` a line for each place that a pass leaves alone, with the reason."""

    def instrument(ran: Ran) -> None:
        for line in ran.step.explain(ran.after):
            say(f"{ran.step}: {line}")

    return instrument
