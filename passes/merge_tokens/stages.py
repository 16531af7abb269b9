"""What is known of tokens that were merged, and what is to be done where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from redir.ir import Graph, Node, Port
from redir.passes.merge_tokens.blocks import Block, rows_of
from redir.passes.merge_tokens.ties import Ties

Kind: TypeAlias = Literal["plain", "weights", "neither"]


@dataclass(frozen=True)
class Tokens:
    """What an axis holds behind the merge of this number, but for so many tokens at its front.

    Numbers of tokens are ``plain``; or they are ``weights`` by which something is to be summed,
    each of a token as often as tokens went into it; or they are neither.
    """

    merge: int
    skipped: int = 0
    kind: Kind = "plain"

    @property
    def at(self) -> tuple[int, int]:
        """Which tokens they are."""
        return self.merge, self.skipped


@dataclass(frozen=True)
class Counted:
    """An operand at a place whose tokens along an axis count by their sizes."""

    place: int
    axis: int
    rows: int | None
    tokens: Tokens


class Refused(Exception):
    """Why tokens cannot be merged."""


@dataclass(eq=False)
class Stages:
    """What is to be done about tokens that are merged behind each of ``merges``.

    ``along`` has the axes that hold them then. Of the nodes in ``biased`` an operand takes the
    logarithm of the sizes on top; of those in ``pooled`` it is multiplied by the sizes. Operands in
    ``even`` hold one number everywhere. The first ``places`` tokens are read by their places.
    ``obstacle`` says why nothing can be merged, if so.
    """

    ties: Ties
    merges: Sequence[Block]
    along: dict[Port, Tokens] = field(default_factory=dict)
    biased: dict[Node, Counted] = field(default_factory=dict)
    pooled: dict[Node, Counted] = field(default_factory=dict)
    even: dict[Node, set[int]] = field(default_factory=dict)
    places: int = 0
    obstacle: str = ""

    @property
    def graph(self) -> Graph:
        """The graph that is looked at."""
        return self.ties.graph

    def counted(self, node: Node, place: int, axis: int) -> Counted:
        """The operand at a place, whose tokens count by their sizes.

        Raises:
            Refused: they do already, or it is not known which example each is of.
        """
        value = node.inputs[place]
        tokens = self.along[value, axis]
        others = [a for v, a in self.along if v is value]
        examples = (self.merges[0].stream.type.shape or (None,))[0]
        rows = rows_of(value, examples, *others)
        if tokens.kind != "plain":
            raise Refused(f"{node} reads tokens that are weighed already")
        if isinstance(rows, str):
            raise Refused(rows)
        return Counted(place, axis, rows, tokens)
