"""What Pad becomes in PyTorch."""

from __future__ import annotations

from redir.backends.torch.emit.site import Emit, Result, Site
from redir.backends.torch.emit.text import number_mark
from redir.backends.torch.ops.layout import constant_numbers


def _pad(site: Site) -> Result:
    mode, rank = site.attr("mode", "constant"), site.rank()
    pads = _pads(site, rank)
    if pads is None and mode == "constant":
        axes = f", {site.numbers(3)}" if site.has(3) else ""
        return f"{site.helper('pad')}({site.ref(0)}, {site.numbers(1)}, {_fill(site)}{axes})"
    if pads is None:
        return _pad_all(site, mode, rank)
    if not any(pads):
        return site.value(0)
    if mode == "constant":
        value = _fill(site)
        fill = "" if value in {"0", "0.0", "False"} else f", value={value}"
        return f"F.pad({site.ref(0)}, {_reversed(pads, rank)}{fill})"
    return _by_axis(site, mode, list(map(str, pads)))


def _by_axis(site: Site, mode: str, pads: list[str]) -> Result:
    """Pads of each axis in turn; those that are 0 are left out."""
    x, rank = site.ref(0), len(pads) // 2
    for axis, (before, behind) in enumerate(zip(pads[:rank], pads[rank:], strict=True)):
        if (before, behind) != ("0", "0"):
            call = f"{site.helper('pad_axis')}({x}, {axis}, {before}, {behind}"
            x = site.let(f'{call}, "{mode}")')
    return [x]


def _pads(site: Site, rank: int) -> list[int] | None:
    """The pads before and behind each axis, if they are constant."""
    given = site.attr("pads", site.attr("paddings"))
    if given is None:
        known = site.ints(1)
        given = known.known if known is not None else None
    if given is None:
        return None
    if not site.has(3):
        return list(given)
    axes, half = constant_numbers(site, 3) or (), len(given) // 2
    pads = [0] * 2 * rank
    for place, axis in enumerate(axes):
        pads[axis % rank], pads[axis % rank + rank] = given[place], given[place + half]
    return pads


def _pad_all(site: Site, mode: str, rank: int) -> Result:
    """Pads that are computed: of each axis in turn."""
    if site.has(3):
        raise site.refused("its pads are computed, and are of some axes only")
    known = site.ints(1)
    if known is not None:
        return _by_axis(site, mode, list(map(str, known.items)))
    held = site.let(site.numbers(1))
    return _by_axis(site, mode, [f"{held}[{k}]" for k in range(2 * rank)])


def _reversed(pads: list[int], rank: int) -> str:
    """The pads as F.pad takes them: of the last axis first, and of no more axes than needed."""
    pairs = [(pads[k], pads[k + rank]) for k in range(rank - 1, -1, -1)]
    while pairs[-1] == (0, 0):
        pairs.pop()
    return f"({', '.join(number_mark('padding', n) for pair in pairs for n in pair)})"


def _fill(site: Site) -> str:
    if site.version < 11:  # noqa: PLR2004 - an attribute
        return site.real("value", 0.0)
    return site.number(2) if site.has(2) else "0"


TABLE: dict[str, Emit] = {
    "Pad": _pad,
}
