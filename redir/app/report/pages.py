"""Making a report of its JSON: a page in HTML, or the short form in Markdown (extra ``report``)."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from redir.app.report import words
from redir.app.report.drawing import CHART, DENSITY
from redir.app.report.schema import Kind, checked
from redir.errors import BadInput, MissingExtra, visible
from redir.evaluation.scales import scale

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ImportError:  # the extra is optional
    Environment = None

if TYPE_CHECKING:
    from collections.abc import Callable

ENDINGS = (".html", ".md")
_PAGE, _SHORT = ENDINGS
_UNKNOWN = "\u2013"


def check_ending(path: str) -> None:
    """Refuse a name that says nothing of its format, or one for nothing.

    Raises:
        BadInput: it ends in none of ``ENDINGS``.
        MissingExtra: jinja2 is not installed.
    """
    if PurePath(path).suffix not in ENDINGS:
        raise BadInput(f"{path}: expected a report that ends in {' or '.join(ENDINGS)}")
    if Environment is None:
        raise MissingExtra("a report", "report")


def page(data: Any, path: str) -> str:
    """The report on ``data``, what ``--json`` of compress or sweep gives, as ``path`` ends.

    Raises:
        BadInput: it is no such data, or ``path`` has another ending.
        MissingExtra: jinja2 is not installed.
    """
    return page_of(*checked(data), path)


def page_of(kind: Kind, held: Mapping[str, Any], path: str) -> str:
    """``page`` of what ``schema`` has checked."""
    check_ending(path)
    ending = PurePath(path).suffix
    found = _environment(ending)
    told = {"d": held, "run": held["run"], "title": _title(held)}
    template = found.get_template(f"{kind}{ending}")
    text: str = template.render(
        **told, **_MAKING[kind](held), **(_parts(found) if _is(ending) else {})
    )
    return text


def _is(ending: str) -> bool:
    return ending == _PAGE


def _title(held: Mapping[str, Any]) -> str:
    run = held["run"]
    return (PurePath(run["model"]).name or run["model"]) if run else "a model"


def _compressed(held: Mapping[str, Any]) -> dict[str, Any]:
    names = words.shown(held["before"], held["after"])
    out = held["run"]["out"] if held["run"] else None
    return {
        "costs": words.costs(held["before"], held["after"]),
        "asked": words.asked(held["target"]),
        "verdict": words.verdict(held),
        "judged": words.judged_by(held),
        "curve": words.expected(held),
        "operators": words.operators(held["operators"]),
        "counted": [words.NAMES[name] for name in names],
        "layers": (rows := words.layers(held["layers"], names)),
        "folded": (folded := words.folded(held["layers"])),
        "left_out": len(held["layers"] or []) - len(rows) - len(folded),
        "errors": any(row.error is not None for row in rows),
        "idle": words.idle(held["passes"]),
        "families": words.families(held["families"]),
        "loading": words.loading(out, list(held["sizes"])),
    }


def _swept(held: Mapping[str, Any]) -> dict[str, Any]:
    judged, names = words.judged_by(held), words.counts(held)
    filed = any(point["file"] or point["missed"] for point in held["points"])
    found = {"curves": words.curves(held), "names": names}
    return {**found, "judged": judged, "filed": filed}


_MAKING: Mapping[Kind, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "compress": _compressed,
    "sweep": _swept,
}


def _parts(found: Any) -> dict[str, Any]:
    """The style and the script, which alone the page lets a browser use."""
    texts = {name: _source(found, name) for name in ("style.css", "script.js")}
    style, script = texts.values()
    allowed = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    shapes = {"chart_size": CHART, "density_size": DENSITY}
    return {"style": Markup(style), "script": Markup(script), "policy": Markup(policy), **shapes}  # noqa: S704 - files of ours


def _source(found: Any, name: str) -> str:
    text: str = found.loader.get_source(found, name)[0]
    return text


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment(ending: str) -> Any:
    """Where templates are found; each text that is not of ours is escaped as the format needs."""
    found = Environment(
        loader=PackageLoader("redir.app.report"),
        autoescape=_is(ending),
        finalize=_shown if _is(ending) else _coded,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(FILTERS)
    return found


def _shown(value: Any) -> Any:
    """A text of others without what steers a display; HTML's own signs are escaped later."""
    return visible(value) if type(value) is str else value


def _coded(value: Any) -> Any:
    """A text of others as a span of code in Markdown, which it cannot end, nor a cell."""
    if type(value) is not str:
        return value
    held = visible(value).replace("`", "\\x60").replace("|", "\\x7c").strip()
    return f"`{held}`" if held else _UNKNOWN


def _count(value: int | None) -> Any:
    return _number(value, lambda number: f"{number:,}")


def _percent(value: float | None) -> Any:
    """A share in per cent, never less than it is."""
    return _number(value, lambda number: f"{_up(100 * number, 0.1):.1f}\u202f%")


def _bare(value: float | None) -> Any:
    """``_percent`` without the sign."""
    return _number(value, lambda number: f"{_up(100 * number, 0.1):.1f}")


def _judged(value: float | None, held: Mapping[str, Any] | None) -> Any:
    """A number of the metric that ``held`` names, if there is one."""
    return _number(held, lambda judged: scale(judged["metric"]).text(value, "\u202f"))


def _change(held: Mapping[str, Any]) -> Any:
    """By how much the number of a metric is another, in points or its own unit."""
    of, numbers = scale(held["metric"]), (held["before"], held["after"])
    unit = {"%": " points", "": ""}.get(of.unit, f"\u202f{of.unit}") if None not in numbers else ""
    return _number(of, lambda of: of.change(*numbers).replace("-", "\u2212") + unit)


def _small(value: float | None) -> Any:
    """A deviation to two digits, never less than it is."""
    return _number(value, lambda number: f"{_two(number):.2g}")


def _milliseconds(value: float | None) -> Any:
    return _number(value, lambda number: f"{1000 * number:.3f}\u202fms")


def _seconds(value: float | None) -> Any:
    return _number(value, lambda number: f"{number:.2f}\u202fs")


def _plain(value: float | None) -> Any:
    return _number(value, lambda number: f"{number:.3g}")


def _place(value: float) -> Any:
    """A place in a picture, to a tenth of a pixel."""
    return _number(value, lambda number: f"{number:.1f}")


def _name(text: str) -> Any:
    """A name of others, which a line may end in behind each of its parts."""
    return Markup("<wbr>").join(_PARTS.findall(visible(text)))


_PARTS = re.compile(r"[^/.,]*[/.,]|[^/.,]+")


def _lines(text: str) -> Any:
    """Code of ours around texts of others, with its line ends and nothing else that steers."""
    return Markup("\n").join(map(visible, text.split("\n")))


def _ours(text: str) -> Any:
    """A text of redir's own, which needs no marks in Markdown."""
    return Markup(text)  # noqa: S704 - not of others


def _number(value: Any, how: Callable[[Any], str]) -> Any:
    return Markup(_UNKNOWN if value is None else how(value))  # noqa: S704 - of a number


def _up(number: float, step: float) -> float:
    return math.ceil(number / step - _ROUNDING) * step


_ROUNDING = 1e-6  # of a step
_TINY = 1e-30  # below which all numbers show alike


def _two(number: float) -> float:
    size = max(abs(number), _TINY)
    return _up(number, 10.0 ** (math.floor(math.log10(size)) - 1))


FILTERS: Mapping[str, Callable[..., Any]] = {
    "count": _count,
    "percent": _percent,
    "bare": _bare,
    "judged": _judged,
    "change": _change,
    "small": _small,
    "milliseconds": _milliseconds,
    "seconds": _seconds,
    "plain": _plain,
    "place": _place,
    "lines": _lines,
    "name": _name,
    "ours": _ours,
}
