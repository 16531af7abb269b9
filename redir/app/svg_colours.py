"""The colours of a drawing, by day and by night, for all kinds of sight."""

from __future__ import annotations

from collections.abc import Iterable

PAPER, INK = "#ffffff", "#222222"
_NIGHT, _CHALK = "#16181c", "#dddddd"
# Those of the scheme "light" of Paul Tol (Colour Schemes, SRON/EPS/TN/09-002) that people with any
# of the three kinds of colour blindness tell apart best. The first is that of no family.
COLOURS = ("#eeeeee", "#77aadd", "#eedd88", "#ee8866", "#99ddff", "#aaaa00", "#ffaabb", "#44bb99")
FILL, LINE = 1.0, 0.6  # the share of a colour's light
NIGHT_FILL, NIGHT_LINE = 0.85, 0.85
_STYLE = (
    f"text{{font:10px sans-serif;fill:{INK}}}.op{{font-size:12px;font-weight:bold}}"
    ".times{font-size:12px;font-weight:bold;text-anchor:end}"
    ".head{font-size:16px;font-weight:bold}"
    ".wire{fill:none;stroke-width:2;stroke-linejoin:round}"
)


def numbers(count: int, touching: Iterable[tuple[int, int]]) -> list[int]:
    """The numbers of the colours of families.

    Those that touch, and those that follow each other, have others if they can.
    """
    near = {place: {place - 1} for place in range(1, count)}
    for one, other in touching:
        near.setdefault(max(one, other), set()).add(min(one, other))
    found: list[int] = []
    usual = len(COLOURS) - 1
    for place in range(count):
        tried = [1 + (place + more) % usual for more in range(usual)]
        taken = {found[other] for other in near.get(place, set()) - {place}}
        found.append(next((number for number in tried if number not in taken), tried[0]))
    return found


def shade(number: int, share: float) -> str:
    """A colour, at a share of its light."""
    parts = (int(COLOURS[number][place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(share * part):02x}" for part in parts)


def style() -> str:
    """How all is written and drawn, and the colours where the browser is dark."""
    dark = f".paper{{fill:{_NIGHT}}}text{{fill:{_CHALK}}}.box text{{fill:{INK}}}" + "".join(
        f".f{n}{{fill:{shade(n, NIGHT_FILL)}}}.w{n}{{stroke:{shade(n, NIGHT_LINE)}}}"
        for n in range(len(COLOURS))
    )
    return f"{_STYLE}@media(prefers-color-scheme:dark){{{dark}}}"
