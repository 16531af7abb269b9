"""What pruning would do, as people read it: for each family the channels that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from redir.channels.families import and_more
from redir.check.outputs import finite
from redir.cost import Cost
from redir.passes.prune.choosing import Gone, Ranked


@dataclass(frozen=True)
class Line:
    """A family: the ``layers`` that make its channels, and how many there are and are ``kept``.

    ``lost`` is the share of the scores that goes.
    """

    layers: tuple[str, ...]
    channels: int
    kept: int
    lost: float

    @classmethod
    def of(cls, ranked: Ranked, gone: Gone) -> Line:
        """That of a family of which some channels go."""
        made = (layer.node.name for w in ranked.family.makers for layer in w.layers)
        going = np.isin(ranked.family.channels, sorted(gone))
        scores = np.maximum(np.nan_to_num(ranked.scores), 0)
        lost = float(scores[going].sum() / (scores.sum() or 1.0))
        return cls(tuple(made), len(scores), int(len(scores) - going.sum()), lost)


@dataclass(frozen=True)
class Pruning:
    """What becomes of each family, and of the whole: what the model costs, after all passes."""

    lines: tuple[Line, ...]
    target: Mapping[str, float]
    criterion: str
    before: Cost
    after: Cost

    @property
    def counts(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """What the model costs before and after, in what does not depend on weights."""
        return self.before.structural, self.after.structural

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """The head and the rows of a table."""
        rows = [
            (and_more(line.layers or ("-",)), line.channels, line.kept, f"{line.lost:.2g}")
            for line in self.lines
        ]
        return ("layers", "channels", "kept", "of the scores lost"), rows

    @property
    def said(self) -> str:
        """What a line below the table says."""
        return f"ranked by {self.criterion}"

    def as_dict(self) -> dict[str, Any]:
        """The plan as ``redir plan --json`` prints it."""
        before, after = self.counts
        return {
            "target": dict(self.target),
            "criterion": self.criterion,
            "before": before,
            "after": after,
            "families": [asdict(line) | {"lost": finite(line.lost)} for line in self.lines],
        }
