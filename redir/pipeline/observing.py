"""Passes that look at what flows through a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from redir.errors import BadPipeline, Skipped
from redir.ir import Node
from redir.pipeline.pipeline import Pass
from redir.statistics import Source, source


@dataclass(frozen=True, kw_only=True)
class Observing(Pass):
    """A pass that looks at what flows through a model.

    Inputs come from ``statistics``, ``examples`` of them (0: as the pass needs), images after
    ``preprocess``.
    """

    statistics: str | Source = "drawn"
    preprocess: str = ""
    examples: int = 0

    def __post_init__(self) -> None:
        """Refuse a source that there is not."""
        if self.examples < 0:
            raise BadPipeline(f"{self.name}: examples is 0 or more: {self.examples}")
        _ = self.source

    @property
    def source(self) -> Source:
        """Where inputs come from."""
        return source(self.statistics, self.preprocess)

    def heed(self, nodes: Iterable[Node], ignore: str) -> None:
        """Warn where none of ``nodes`` has a name of those to ``ignore``: it may be mistyped.

        Warns:
            Skipped: there is none.
        """
        if ignore and not any(node.matches(ignore) for node in nodes):
            why = f"no layer has a name like {ignore!r}, to be ignored: redir stats shows names"
            warnings.warn(f"{self.name}: {why}", Skipped, stacklevel=4)
