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
from redir.runtime.open_sizes import Shapes

Say = Callable[[str], object]


@dataclass(frozen=True)
class Step:
    """One pass of a run: its time in seconds, and how far it moved the outputs.

    ``deviation`` is the largest difference as a share of the output's magnitude; None where the
    model cannot be run. ``verdict`` is that of a pass that promises the same outputs. ``ties`` is
    the share of the results of steps that fell the other way, which the deviation leaves out.
    """

    name: str
    seconds: float
    changed: bool
    deviation: float | None
    verdict: Outcome | None
    ties: float = 0.0

    @property
    def moved(self) -> str:
        """The deviation for people, and the share of ties if there are any."""
        if not self.changed:
            return "unchanged"
        if self.deviation is None:
            return "not run"
        return f"{self.deviation:.1e}" + (f", {100 * self.ties:.2g}% ties" if self.ties else "")


@dataclass
class Outputs:
    """Compares the outputs before and after each pass, on ``samples`` inputs that are drawn once.

    ``steps`` are what it found of the passes, and ``verdicts`` those on the ones that changed
    something, each with whether the pass promises the same outputs. ``seen`` are the original and
    the latest graph, or nothing where the original cannot be run, and ``why``.
    """

    samples: int = 2
    seed: int = 0
    input_shapes: Shapes | None = None
    steps: list[Step] = field(default_factory=list)
    verdicts: list[tuple[Verdict, bool]] = field(default_factory=list)
    seen: list[Observed] = field(default_factory=list)
    why: str = ""

    def __call__(self, ran: Ran) -> None:
        """Compare what a pass gave with what it was given.

        Raises:
            BadInput: a shape does not fit the graph.
            Broken: the pass promises the same outputs and changed them, or made what does not run.
        """
        if not self.steps:
            self._draw(ran.before)
        exact = SAME_OUTPUTS in ran.step.guarantees
        found = self._verdict(ran.after) if ran.changed else Verdict("pass")
        if found.verdict == "fail" and (exact or not found.outputs):
            what = "changed the outputs" if found.outputs else "made a model that does not run"
            raise Broken(f"{ran.step} {what} and was stopped: {found.reason}")
        moved = None if found.verdict == "skipped" else found.deviation
        outcome = found.verdict if exact else None
        step = Step(str(ran.step), ran.seconds, ran.changed, moved, outcome, found.ties)
        self.steps.append(step)
        self.verdicts += [(found, exact)] if ran.changed else []

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
