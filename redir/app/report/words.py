"""The words and rows of a report: what its templates say, made of the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from redir.app.report.drawing import Axes, Chart, Densities, Dot, chart, densities
from redir.evaluation.scales import SCALES, Scale, scale
from redir.pipeline.compress import COUNTS

Held = Mapping[str, Any]
NAMES = {
    "parameters": "parameters",
    "distinct": "distinct weights",
    "macs": "multiply-adds",
    "multiplications": "multiplications",
    "bytes": "bytes",
}
_FEW = 6  # names that a cell shows
_WORTH = 16  # numbers, for which a layer that multiplies nothing has a row
_APART = 0.01  # from which on two shares are not the same
_NONE = "\u2013"


class Change(NamedTuple):
    """A number before and after; either is None where it is not known."""

    name: str
    before: Any
    after: Any

    @property
    def changed(self) -> bool:
        """Whether it is another."""
        return bool(self.before != self.after)

    @property
    def left(self) -> float | None:
        """The share that is left, if that is known."""
        return share(self.after, self.before)


def share(after: float | None, before: float | None) -> float | None:
    """``after`` as a share of ``before``, if both are known and there is one."""
    return after / before if before and after is not None else None


def costs(before: Held, after: Held) -> list[Change]:
    """What a model costs before and after."""
    return [Change(word, before[name], after[name]) for name, word in NAMES.items()]


def operators(held: Held | None) -> list[Change]:
    """How often each operator is there, the most frequent first."""
    if held is None:
        return []
    before, after = held["before"], held["after"]
    names = sorted({**before, **after}, key=lambda name: (-before.get(name, 0), name))
    return [Change(name, before.get(name, 0), after.get(name, 0)) for name in names]


class Layer(NamedTuple):
    """A row of the table of layers."""

    name: str
    op: str
    was: str
    parts: Sequence[str]
    rank: int | None
    width: int | None
    counts: Sequence[Change]
    densities: Densities | None
    error: float | None
    changed: bool


def shown(before: Held, after: Held) -> list[str]:
    """The counts that the table of layers shows: those that go different ways."""
    pairs = {"distinct": "parameters", "multiplications": "macs", "bytes": "parameters"}
    left = {name: share(after[name], before[name]) for name in NAMES}
    apart = [
        name
        for name, like in pairs.items()
        if (a := left[name]) is not None and (b := left[like]) is not None and abs(a - b) > _APART
    ]
    return ["macs", "parameters", *apart]


def layers(held: Sequence[Held] | None, names: Sequence[str]) -> list[Layer]:
    """A row for each layer, but not for those that only handle sizes, or are folded into others."""
    return [_layer(each, names) for each in held or [] if _matters(each) and not _is_folded(each)]


def folded(held: Sequence[Held] | None) -> list[str]:
    """The names of layers that multiplied nothing and are gone, as norms are."""
    return [
        each["name"] or each["op"] for each in held or [] if _matters(each) and _is_folded(each)
    ]


def _is_folded(held: Held) -> bool:
    return not held["parts"] and bool(held["before"]) and not held["before"]["macs"]


def _matters(held: Held) -> bool:
    """Whether a layer multiplies anything, or stores more than a size or an index."""
    known = [counts for counts in (held["before"], held["after"]) if counts is not None]
    return any(counts["macs"] or counts["parameters"] >= _WORTH for counts in known)


def _layer(held: Held, names: Sequence[str]) -> Layer:
    nothing = dict.fromkeys(names, 0)
    before, after = held["before"] or nothing, held["after"] or nothing
    was, parts = held["was"], held["parts"]
    drawn = densities(was and was["density"], [p["density"] for p in parts if p["density"]])
    now = _made_of(parts, held["op"])
    wide = [part["outputs"] for part in parts if part["outputs"] is not None]
    return Layer(
        held["name"] or "(no name)",
        held["op"],
        _shape(was) if was else "new",
        now,
        held["rank"],
        wide[-1] if wide else None,
        [Change(name, before[name], after[name]) for name in names],
        drawn,
        held["error"],
        held["before"] != held["after"] or bool(was and [_shape(was)] != now),
    )


def _made_of(parts: Sequence[Held], op: str) -> list[str]:
    """The shapes of what a layer is made of, or else its operators, if they are others."""
    shapes = [shape for part in parts if (shape := _shape(part)) != _NONE]
    others = [part["op"] for part in parts if part["op"] != op]
    return shapes or others or ([_NONE] if parts else ["gone"])


def _shape(part: Held) -> str:
    """What a layer makes of how many channels, by which kernel."""
    if part["inputs"] is None or part["outputs"] is None:
        return _NONE
    kernel = "\u00d7".join(map(str, part["kernel"] or []))
    groups = f"in {part['groups']} groups" if (part["groups"] or 1) > 1 else ""
    words = (f"{part['inputs']}\u2192{part['outputs']}", kernel, groups)
    return " ".join(filter(None, words))


class Family(NamedTuple):
    """A row of the table of families."""

    number: int
    channels: int
    free: int
    members: str
    pinned_by: str
    why: str


def families(held: Held | None) -> list[Family]:
    """A row for each family of coupled channels, those that are pinned first."""
    found = [] if held is None else _families(held["families"])
    return sorted(found, key=lambda family: not family.pinned_by)


def _families(held: Sequence[Held]) -> Iterator[Family]:
    for number, each in enumerate(held, 1):
        members = few([member["name"] for member in each["members"]])
        pins = few([pin["what"] for pin in each["pins"]])
        why = few(each["pins"][0]["why"], " > ") if each["pins"] else ""
        yield Family(number, each["width"], each["free"], members, pins, why)


def few(names: Sequence[str], between: str = ", ") -> str:
    """The first of some names, each once, and how many more there are."""
    known = list(dict.fromkeys(names))
    more = [f"{len(known) - _FEW} more"] if len(known) > _FEW else []
    return between.join([*known[:_FEW], *more])


def idle(passes: Sequence[Held]) -> list[tuple[str, int]]:
    """The passes that changed nothing, and how often they ran."""
    return list(Counter(step["name"] for step in passes if not step["changed"]).items())


def verdict(held: Held) -> str:
    """What the checks say, in a sentence."""
    ran = [step for step in held["passes"] if step["changed"]]
    if not ran:
        return "Nothing was found to remove: the output is the model as it was."
    why = f": {held['reason']}" if held["reason"] else ""
    if held["verdict"] != "pass":
        return f"The check of the outputs is {held['verdict']}{why}."
    if all(step["verdict"] or step["waits"] for step in ran):
        return "The outputs are the same but for rounding."
    kept = any(step["verdict"] or step["waits"] for step in ran)
    return "Some passes change the outputs on purpose" + (
        "; those that promise the same outputs kept them." if kept else "."
    )


class Judged(NamedTuple):
    """What is said of a metric; the title of one that redir has is ``known``."""

    title: str
    known: bool
    told: str


def judged_by(held: Held) -> Judged | None:
    """The metric that judged, if one did."""
    judged = held["eval"]
    if judged is None:
        return None
    title = scale(judged["metric"]).title
    better = "lower" if judged["better"] == "lower" else "higher"
    by = "outputs of the original" if judged["against"] == "original" else "targets of the data"
    told = f"The {title} is taken against the {by}; {better} is better."
    return Judged(title, judged["metric"] in SCALES, told)


def loading(out: str | None, inputs: Sequence[str]) -> str | None:
    """Python that loads a model from the file ``out``, if it is one."""
    match PurePath(out or "").suffix:
        case ".onnx":
            feeds = ", ".join(f"{name!r}: ..." for name in inputs)
            return (
                "import onnxruntime\n\n"
                f"session = onnxruntime.InferenceSession({out!r})\n"
                f"results = session.run(None, {{{feeds}}})"
            )
        case ".py":
            return (
                "import importlib.util\n\n"
                f"spec = importlib.util.spec_from_file_location('model', {out!r})\n"
                "source = importlib.util.module_from_spec(spec)\n"
                "spec.loader.exec_module(source)\n"
                "model = source.load()"
            )
        case ".redir":
            return f"import redir\n\ngraph = redir.load({out!r})"
    return None


def asked(target: Held | None) -> str:
    """What was asked for, in words."""
    if target is None:
        return ""
    name, count = target["name"], COUNTS.get(target["name"])
    return f"{target['asked']:g} of the {NAMES[count]}" if count else f"{name} {target['asked']:g}"


def counts(held: Held) -> dict[str, str]:
    """The counts that a table of points shows."""
    found = {name for point in held["points"] for name in shown(held["before"], point)}
    return {name: word for name, word in NAMES.items() if name in found or not found}


def curves(held: Held) -> list[Chart]:
    """The curves of a sweep: quality, and time where it is known, by the share that is left."""
    along = COUNTS.get(held["target"], "macs")
    known = [(x, p) for p in held["points"] if (x := share(p[along], held["before"][along]))]
    found = chart(*_quality(known, held, NAMES[along]))
    times = [(x, p, p["time"]) for x, p in known if p["time"]]
    spread = [
        Dot(100 * x, 100 * t["ratio"], 100 * t["low"], 100 * t["high"], _asked(p))
        for x, p, t in times
    ]
    axes = Axes("Time", "% of the time", f"% of the {NAMES[along]} left", 100.0, "original")
    return [each for each in (found, chart(spread, axes)) if each is not None]


def expected(held: Held) -> Chart | None:
    """The curve of what other plans were expected to come to, with the one that was carried out."""
    curve = held["curve"]
    if curve is None or curve["unit"] not in NAMES:
        return None
    known = [(100 * p["left"], p["deviation"]) for p in curve["points"]]
    dots = [Dot(x, y, y, y, f"{x:.0f} %") for x, y in known if y is not None]
    below = f"% of the {NAMES[curve['unit']]} left"
    named = "Expected deviation", "share of the spread", below
    return chart(dots, Axes(*named, held["expected"], "this plan"))


def _quality(known: Sequence[tuple[float, Held]], held: Held, along: str) -> tuple[list[Dot], Axes]:
    """The points of what was judged, or else of the deviation, and their axes."""
    judged, below = held["eval"], f"% of the {along} left"
    of = scale(judged["metric"]) if judged else Scale("deviation")
    level = judged["before"] if judged else None
    told = ("original",) if level is not None else ()
    title = of.title[:1].upper() + of.title[1:]
    axes = Axes(title, of.axis, below, level and of.factor * level, *told)
    points = [
        Dot(100 * x, y, y, y, _asked(p))
        for x, p in known
        if (found := p["eval" if judged else "deviation"]) is not None
        for y in [of.factor * found]
    ]
    return points, axes


def _asked(point: Held) -> str:
    return f"{point['asked']:g} asked"
