"""Blocks of a network that follow each other and are alike, of which the first alone is drawn."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

_LONGEST = 400  # boxes of a block
_SHORTEST = 2
_WORTH = 6  # boxes of all blocks together


class Run(NamedTuple):
    """From box ``start`` on, so many ``times`` a block of so many boxes."""

    start: int
    period: int
    times: int

    @property
    def end(self) -> int:
        """The first box behind it."""
        return self.start + self.period * self.times

    def place(self, box: int) -> tuple[int, int] | None:
        """Which of the blocks a box is in, and where in that; None outside."""
        return divmod(box - self.start, self.period) if self.start <= box < self.end else None


@dataclass(frozen=True)
class Fold:
    """Boxes in order: what each looks like, and which boxes it reads."""

    looks: Sequence[Hashable]
    reads: Sequence[Sequence[int]]

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of alike blocks, one behind the other; of several the one that hides most."""
        found, start = list[Run](), 0
        while start < len(self.looks):
            best = max(
                self._runs(start), key=lambda run: run.period * (run.times - 1), default=None
            )
            found += [best] if best else []
            start = best.end if best else start + 1
        return found

    def _runs(self, start: int) -> list[Run]:
        most = min(_LONGEST, (len(self.looks) - start) // 2)
        tried = (Run(start, p, self._times(start, p)) for p in range(_SHORTEST, most + 1))
        return [run for run in tried if run.times > 1 and run.period * run.times >= _WORTH]

    def _times(self, start: int, period: int) -> int:
        """How often the block at ``start`` stands there."""
        times = 1
        while self._alike(start, start + times * period, period):
            if not self._closed(start + (times - 1) * period, period):
                break
            times += 1
        return times

    def _alike(self, one: int, other: int, period: int) -> bool:
        """Whether two blocks look alike, and read alike."""
        if other + period > len(self.looks):
            return False
        return all(
            self.looks[one + n] == self.looks[other + n] and self._reads_alike(one, other, n)
            for n in range(period)
        )

    def _reads_alike(self, one: int, other: int, place: int) -> bool:
        """Whether boxes at a place of two blocks read the same, or what is as far away."""
        reads = [sorted(self.reads[start + place]) for start in (one, other)]
        return len(reads[0]) == len(reads[1]) and all(
            b - a == other - one or (a == b and a < one) for a, b in zip(*reads, strict=True)
        )

    def _closed(self, start: int, period: int) -> bool:
        """Whether only its own block and the next one read what is in a block."""
        inside = range(start, start + period)
        after = range(start + 2 * period, len(self.looks))
        return not any(read in inside for box in after for read in self.reads[box])

    @cached_property
    def hidden(self) -> set[int]:
        """The boxes that are not drawn."""
        return {box for run in self.runs for box in range(run.start + run.period, run.end)}

    @property
    def stands_for(self) -> Mapping[int, Sequence[int]]:
        """The boxes that one stands for, itself first, where these are several."""
        return {
            box: range(box, run.end, run.period)
            for run in self.runs
            for box in range(run.start, run.start + run.period)
        }

    def targets(
        self, box: int, result: int, read_by: Mapping[tuple[int, int], Sequence[int]]
    ) -> list[int]:
        """The drawn boxes that read a ``result`` of a box: behind a run, that of its last block."""
        run = next((run for run in self.runs if run.place(box)), None)
        own = [n for n in read_by[box, result] if n not in self.hidden]
        if run is None:
            return own
        last = box + (run.times - 1) * run.period
        behind = [n for n in read_by.get((last, result), ()) if n not in self.hidden]
        return [*(n for n in own if run.place(n)), *(n for n in behind if not run.place(n))]
