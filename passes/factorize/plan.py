"""A plan as people read it, edit it and give it back: for each layer a form and a rank."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from redir.check.outputs import finite
from redir.cost import Cost
from redir.errors import BadInput
from redir.ir import Graph, Node
from redir.passes.factorize.forms import MULTIPLY_ADDS, Factoring
from redir.passes.factorize.solving import Choice
from redir.passes.factorize.study import Choices, Study
from redir.passes.factorize.tradeoff import Curve
from redir.pipeline.planning import header, said

_MOST = 2**24  # bytes of a file
_SAID = 60  # characters of what is quoted


@dataclass(frozen=True)
class Line:
    """What becomes of a layer: a form of a rank, or neither where it stays as it is.

    ``cost`` is what it costs, in the unit of the plan; ``saved`` what the model costs less, also in
    other layers; and ``error`` how far this alone is estimated to move the outputs, as a share of
    their spread.
    """

    layer: str
    form: str | None = None
    rank: int | None = None
    cost: int = 0
    saved: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What becomes of each layer, and of the whole.

    ``target`` and ``statistics`` are what it was made for and from; ``before`` and ``after`` what
    the model costs, after all passes; ``deviation`` how far outputs are estimated to go, as a share
    of their spread. ``unit`` is what the lines count, and ``curve`` what other plans were
    expected to come to, if that is known. Only the ``lines`` say what is done.
    """

    lines: tuple[Line, ...]
    target: Mapping[str, float] = field(default_factory=dict)
    statistics: str = ""
    unit: str = MULTIPLY_ADDS
    before: Cost = field(default_factory=Cost)
    after: Cost = field(default_factory=Cost)
    deviation: float = 0.0
    curve: Curve = ()

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """The plan of a file, as ``as_dict`` gives it; all but the lines may be missing.

        Raises:
            BadInput: the file is missing, or is no plan.
        """
        try:
            with Path(path).open("rb") as file:
                text = file.read(_MOST + 1)
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror or error}") from None
        if len(text) > _MOST:
            raise BadInput(f"{path}: more than {_MOST >> 20} MiB, which no plan has")
        try:
            return cls(tuple(_lines(json.loads(text))))
        except (ValueError, RecursionError):
            raise BadInput(f"{path}: not JSON, or damaged") from None
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None

    @classmethod
    def of(cls, study: Study, plan: Choices, unit: str) -> Plan:
        """The plan with a line for each layer that may be factored."""
        names = {node: name for name, node in layers(study.graph).items()}
        lines = tuple(_line(study, names[n], n, plan.get(n), unit) for n in study.ways)
        return cls(lines, unit=unit, deviation=study.drift(plan))

    def choices(self, graph: Graph, ways: Mapping[Node, Sequence[Factoring]]) -> Choices:
        """What the lines say of the layers of a graph that may be factored in some ``ways``.

        Raises:
            BadInput: there is no such layer, or it does not take the form, or not at that rank.
        """
        known = layers(graph)
        for line in (line for line in self.lines if line.layer not in known):
            raise BadInput(f"plan: the model has no layer {_quoted(line.layer)} at that point")
        chosen = ((known[line.layer], line) for line in self.lines if line.form is not None)
        return {node: _choice(ways.get(node, ()), line) for node, line in chosen}

    def changed(self, layer: str, form: str | None = None, rank: int | None = None) -> Plan:
        """The plan with another form and rank for a layer, or with the layer as it is."""
        kept = (line for line in self.lines if line.layer != layer)
        return replace(self, lines=(*kept, Line(layer, form, rank)))

    @property
    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """What the model costs before and after, in what does not depend on solved weights."""
        return self.before.structural, self.after.structural

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """The head and the rows of a table."""
        whole = self.before.structural[self.unit]
        head = ("layer", "form", "rank", self.unit, "saved", "of all", "error")
        return head, [_row(line, whole) for line in self.lines]

    @property
    def said(self) -> str:
        """What a line below the table says."""
        return said(self)

    def as_dict(self) -> dict[str, Any]:
        """The plan as ``redir plan --json`` prints it."""
        lines = [asdict(line) | {"error": finite(line.error)} for line in self.lines]
        return {**header(self), "layers": lines}

    def __str__(self) -> str:
        """A few words."""
        return f"{sum(line.form is not None for line in self.lines)} layers"


def layers(graph: Graph) -> dict[str, Node]:
    """The nodes that read something by their names; to one that is not the first a number is added.

    A node that has no name is called after its operator.
    """
    found, times = dict[str, Node](), Counter[str]()
    for node in (node for node in graph.nodes if node.inputs):
        name = plain = node.name or str(node.op)
        while name in found:
            times[plain] += 1
            name = f"{plain}#{times[plain] + 1}"
        found[name] = node
    return found


def _line(study: Study, name: str, node: Node, choice: Choice | None, unit: str) -> Line:
    cost = study.ways[node][0].dense(unit)
    if choice is None:
        return Line(name, cost=cost)
    alone = {node: choice}
    saved, error = study.saved(alone, unit), study.drift(alone)
    return Line(name, choice.form.name, choice.rank, cost, saved, error)


def _row(line: Line, whole: int) -> Sequence[object]:
    if line.form is None:
        return (line.layer, "-", "-", line.cost, "-", "-", "-")
    share = f"{100 * line.saved / whole:.1f}%" if whole else "-"
    return (line.layer, line.form, line.rank, line.cost, line.saved, share, f"{line.error:.2g}")


def _choice(forms: Sequence[Factoring], line: Line) -> Choice:
    what = f"plan: layer {_quoted(line.layer)}"
    if not forms:
        raise BadInput(f"{what} cannot be factored: redir opt --explain says why")
    form = next((form for form in forms if form.name == line.form), None)
    if form is None:
        known = ", ".join(form.name for form in forms)
        raise BadInput(f"{what} cannot become {_quoted(line.form)}, but {known}")
    assert line.rank is not None
    ranks = form.ranks(1)
    if line.rank not in ranks:
        least, most = ranks[0], ranks[-1]
        raise BadInput(f"{what} as {form.name} has a rank from {least} to {most}, not {line.rank}")
    return Choice(form, line.rank)


def _lines(data: Any) -> Iterator[Line]:
    """The lines of what a file held."""
    found = data.get("layers") if isinstance(data, dict) else data
    if not isinstance(found, list):
        raise BadInput("expected a list of layers, or an object that has one as 'layers'")
    seen = set[str]()
    for number, each in enumerate(found, 1):
        line = _read(each, f"layer {number} of the list")
        if line.layer in seen:
            raise BadInput(f"layer {_quoted(line.layer)} is there twice")
        seen.add(line.layer)
        yield line


def _read(each: Any, what: str) -> Line:
    if not isinstance(each, dict) or not isinstance(each.get("layer"), str):
        raise BadInput(f"{what} is not an object with the name of a 'layer'")
    form, rank = each.get("form"), each.get("rank")
    if form is None and rank is None:
        return Line(each["layer"])
    if not isinstance(form, str) or type(rank) is not int:
        raise BadInput(
            f"{what}: 'form' and 'rank' are {_quoted([form, rank])}, not a name and a "
            "whole number, nor both null"
        )
    return Line(each["layer"], form, rank)


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SAID else f"{text[:_SAID]}..."
