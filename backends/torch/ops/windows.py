"""Windows that slide along axes: what convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redir.backends.torch.emit.site import Site

IMAGE = 3  # axes at most that a window slides along


def shortened(numbers: Sequence[int]) -> str:
    """Numbers as an argument: one where they are the same."""
    same = len(set(numbers)) == 1
    return str(numbers[0]) if same else f"({', '.join(map(str, numbers))})"


def lined(count: int) -> str:
    """The index that puts ``count`` axes behind a vector."""
    return f"[{', '.join([':', *['None'] * count])}]" if count else ""


@dataclass(frozen=True)
class Window:
    """How a kernel slides along the last axes of operand 0.

    ``automatic`` is SAME_UPPER or SAME_LOWER where the pads depend on sizes that are open;
    ``before`` says that the operand is padded in a statement of its own.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    automatic: str = ""
    before: bool = False

    @property
    def rank(self) -> int:
        """How many axes it slides along."""
        return len(self.kernel)

    @property
    def even(self) -> bool:
        """Whether the layer itself can pad."""
        return self.begin == self.end and not (self.automatic or self.before)

    @property
    def pads(self) -> str:
        """The pads as F.pad takes them."""
        pairs = zip(reversed(self.begin), reversed(self.end), strict=True)
        return f"({', '.join(str(n) for pair in pairs for n in pair)})"


def window_of(site: Site, kernel: Sequence[int]) -> Window:
    """The window that the attributes of a node describe."""
    rank = len(kernel)
    if not 0 < rank <= IMAGE or any(not isinstance(k, int) for k in kernel):
        raise site.refused("its window is of no known size, or slides along more than 3 axes")
    ones = (1,) * rank
    strides, dilations = site.attr("strides", ones), site.attr("dilations", ones)
    pads = tuple(site.attr("pads", (0,) * 2 * rank))
    if (len(strides), len(dilations), len(pads)) != (rank, rank, 2 * rank):
        raise site.refused(f"its strides, dilations or pads are not those of {rank} axes")
    window = Window(tuple(kernel), tuple(strides), tuple(dilations), pads[:rank], pads[rank:])
    how = site.attr("auto_pad", "NOTSET")
    if how == "VALID":
        return replace(window, begin=(0,) * rank, end=(0,) * rank)
    return window if how == "NOTSET" else _same(site, window, how)


def _same(site: Site, window: Window, how: str) -> Window:
    """The window with the pads that auto_pad stands for, if they depend on no open size."""
    begin, end = [], []
    steps = zip(window.kernel, window.strides, window.dilations, strict=True)
    for axis, (k, s, d) in enumerate(steps):
        size = 1 if s == 1 else site.size(0, axis + 2)
        if size is None:
            return replace(window, automatic=how)
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(large if how == "SAME_LOWER" else small)
        end.append(small if how == "SAME_LOWER" else large)
    return replace(window, begin=tuple(begin), end=tuple(end))


def padded(site: Site, window: Window, fill: str = "") -> str:
    """Operand 0, padded first where the layer cannot."""
    x = site.ref(0)
    if window.even:
        return x
    if window.automatic:
        lower = window.automatic == "SAME_LOWER"
        sizes = f"{window.kernel}, {window.strides}, {window.dilations}, {lower}"
        return site.let(f"{site.helper('same_pad')}({x}, {sizes}{fill})")
    return site.let(f"F.pad({x}, {window.pads}{fill})")
