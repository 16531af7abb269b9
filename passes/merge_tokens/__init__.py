"""Merge tokens of an encoder of images that are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from redir.check.guarantees import SAME_INTERFACE
from redir.cost.counts import macs
from redir.cost.forms import no_dearer
from redir.cost.models import MACS
from redir.errors import BadPipeline
from redir.ir import Graph
from redir.layers.sums import apart
from redir.ops import OPSET
from redir.passes.merge_tokens.blocks import Block, attends, blocks
from redir.passes.merge_tokens.following import followed
from redir.passes.merge_tokens.matching import Matching
from redir.passes.merge_tokens.rewriting import rewritten
from redir.passes.merge_tokens.stages import Stages
from redir.passes.merge_tokens.ties import Ties
from redir.pipeline import Pass

_HALF = 0.5
_LEAST = 13  # the operator set in which what is written is as it is written


@dataclass(frozen=True)
class MergeTokens(Pass):
    """In an encoder of images, tokens that are alike become one behind the attention of each block.

    Every second token looks for the one among the others whose key, averaged over heads, is most
    like its own by the cosine; the pairs that are most alike become their mean. From there on a
    token has the size of those that went into it: what attends to it adds the logarithm of that to
    its scores, and means over tokens are weighted. ``share`` of the tokens are merged behind the
    last block, as evenly over all blocks as whole numbers allow; or ``per_block`` in each, or half
    of them where there are not as many. Tokens that are read by their place at the end, such as
    that of the class, stay. The outputs are others: how far is measured.

    The model stays as it is where its tokens are of an open number, are given out, or are read by
    their places otherwise; where something is added for each of them, as masks and biases for pairs
    are; and where the multiply-adds would not become fewer. From ToMe (Bolya et al., ICLR 2023).
    """

    share: float = _HALF
    per_block: int = 0

    guarantees = (SAME_INTERFACE, no_dearer(MACS))

    def __post_init__(self) -> None:
        """Refuse options that make no sense."""
        if not 0 <= self.share < 1:
            why = f"share must be at least 0 and below 1, not {self.share}"
            raise BadPipeline(f"merge-tokens: {why}")
        if self.per_block < 0:
            raise BadPipeline(f"merge-tokens: per_block must be 0 or more, not {self.per_block}")
        if self.per_block and self.share != _HALF:
            raise BadPipeline("merge-tokens: share and per_block are two ways to say how many")

    def run(self, graph: Graph) -> Graph:
        """Merge tokens, if the multiply-adds become fewer."""
        after = self._merged(graph)
        return graph if isinstance(after, str) else after

    def explain(self, graph: Graph) -> Iterator[str]:
        """Why the model stays as it is."""
        after = self._merged(graph)
        if isinstance(after, str):
            yield after

    def _merged(self, graph: Graph) -> Graph | str:
        """The graph with fewer tokens, or why there is none."""
        ties = Ties.of(apart(graph)) if attends(graph) else None
        found = [] if ties is None else blocks(ties)
        if ties is None or not found:
            return "no attention of tokens of a known number to each other is added to these"
        if graph.opset.get("", OPSET) < _LEAST:
            return f"the model is of an operator set below {_LEAST}"
        stages = followed(ties, found)
        numbers = self._numbers(found, stages)
        merges = [block for block, number in zip(found, numbers, strict=True) if number]
        if stages.obstacle or not merges:
            return stages.obstacle or "no tokens are to be merged"
        if len(merges) < len(found):
            stages = followed(ties, merges)
        after = rewritten(stages, [n for n in numbers if n])
        fewer = macs(after) < macs(graph)
        return after if fewer else "matching tokens would take more multiply-adds than it saves"

    def _numbers(self, found: Sequence[Block], stages: Stages) -> Sequence[int]:
        """How many tokens each block is to merge."""
        left, count, numbers = found[0].tokens, len(found), list[int]()
        totals = [round(self.share * (left - stages.places) * i / count) for i in range(count + 1)]
        for wanted in (b - a for a, b in pairwise(totals)):
            most = Matching(left, 0, stages.places).most
            numbers.append(min(self.per_block or wanted, most))
            left -= numbers[-1]
        return numbers
