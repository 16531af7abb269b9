"""Passes, and pipelines of them with their textual form."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from redir.check.guarantees import Guarantee
from redir.errors import BadPipeline, Broken
from redir.io.plugins import plugin, plugins
from redir.ir import Graph, expect_graph
from redir.runtime.open_sizes import Shapes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROUP = "redir.passes"


@dataclass(frozen=True)
class Pass:
    """A function from graphs to graphs. Its options are its dataclass fields.

    A subclass is a frozen dataclass with ``run`` and the ``guarantees`` it gives. Its textual form
    is its ``name``, by default the class name in small letters with dashes, and the options that
    are not at their default: ``hash{bandwidth=0.2}``.
    """

    name: ClassVar[str] = "pass"

    def __init_subclass__(cls) -> None:
        """Name the pass after its class unless it names itself."""
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """What the pass promises with these options: mostly a plain class attribute."""
        return ()

    @property
    def asked(self) -> Mapping[str, float]:
        """The target that is to be reached, under its name, by a pass that has one."""
        return {}

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph: ``graph`` itself if there was nothing to do."""
        raise NotImplementedError

    def run_at(self, graph: Graph, place: Place) -> Graph:
        """``run``, by a pass that looks at what else is run."""
        del place
        return self.run(graph)

    def restated(self, graph: Graph) -> Graph:
        """``graph`` in the words of what the pass makes of it, with which that is compared.

        That is ``graph`` itself, unless inputs or outputs get another meaning.
        """
        return graph

    def explain(self, graph: Graph) -> Iterable[str]:
        """Why the pass leaves alone what it leaves alone in ``graph``, a line for each place."""
        del graph
        return ()

    def figures(self, before: Graph, after: Graph) -> Mapping[str, Figure]:
        """Pictures of what the pass did, by name: figures of matplotlib (the extra ``plot``)."""
        del before, after
        return {}

    def __call__(self, graph: Graph, *, check: bool = False) -> Graph:
        """Run the pass and, if asked, each check of its guarantees.

        Raises:
            BadInput: it is no graph.
            Broken: a guarantee was refuted.
        """
        expect_graph(graph)
        after = self.run(graph)
        if check:
            check_promises(self, graph, after)
        return after

    def __str__(self) -> str:
        """The textual form, which ``Pipeline.parse`` reads back."""
        changed = {n: getattr(self, n) for n in fields_of(self) if not _is_default(self, n)}
        options = ",".join(f"{key}={_print(value)}" for key, value in changed.items())
        return f"{self.name}{{{options}}}" if options else self.name


@dataclass(frozen=True)
class Pipeline(Pass):
    """Passes one after the other: itself a pass."""

    passes: tuple[Pass, ...] = ()

    @property
    def asked(self) -> Mapping[str, float]:
        """The target of the last pass that has one."""
        return next((found for step in reversed(self.passes) if (found := step.asked)), {})

    def run(self, graph: Graph) -> Graph:
        """Run each pass on what the one before it gave."""
        for step, place in self.placed(graph):
            graph = step.run_at(graph, place)
        return graph

    def __call__(self, graph: Graph, *, check: bool = False) -> Graph:
        """Run each pass and, if asked, check what each of them promises."""
        expect_graph(graph)
        for step, place in self.placed(graph):
            before, graph = graph, step.run_at(graph, place)
            if check:
                check_promises(step, before, graph)
        return graph

    def placed(self, original: Graph, shapes: Shapes | None = None) -> Iterator[tuple[Pass, Place]]:
        """Each pass, and where it stands in a run on ``original``, counted at ``shapes``."""
        for number, step in enumerate(self.passes, 1):
            yield step, Place(original, Pipeline(self.passes[number:]), shapes)

    def __str__(self) -> str:
        """The passes with commas between them."""
        return ",".join(map(str, self.passes))

    def given(self, **options: Any) -> Pipeline:
        """The passes with ``options`` where they have ones of these names, still at the default."""
        return Pipeline(tuple(_given(step, options) for step in self.passes))

    @classmethod
    def parse(cls, spec: str) -> Pipeline:
        """The pipeline that ``spec`` names, such as ``fold-batchnorm,hash{bandwidth=0.2},merge``.

        Raises:
            BadPipeline: a pass or option is unknown, or the text is not a pipeline.
        """
        return cls(tuple(_parse(spec)))


@dataclass(frozen=True)
class Place:
    """Where a pass stands: what the run began with, and the passes ``behind`` it.

    ``shapes`` are those of the inputs for which costs are counted, by default ``example_shapes``.
    """

    original: Graph
    behind: Pipeline = field(default_factory=Pipeline)
    shapes: Shapes | None = None


def check_promises(step: Pass, before: Graph, after: Graph, *, numeric: bool = True) -> None:
    """Check what ``step`` promises: all of it, or only what needs no run.

    Raises:
        Broken: a guarantee was refuted.
    """
    given = step.restated(before)
    for promise in step.guarantees:
        why = promise.refute(given, after) if numeric or not promise.numeric else None
        if why is not None:
            raise Broken(f"{step} breaks its promise {promise.name!r}: {why}")


def available() -> dict[str, type[Pass]]:
    """Every pass that is installed, by name: redir's own and those of other packages."""
    return {name: _installed(name) for name in plugins(_GROUP)}


def _installed(name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        BadPipeline: there is none, or more than one, or what is called so is none.
    """
    found: type[Pass] = plugin(_GROUP, name, "pass")
    if not (isinstance(found, type) and issubclass(found, Pass) and is_dataclass(found)):
        where = plugins(_GROUP)[name].value
        raise BadPipeline(f"{where}, installed as the pass {name!r}, is no dataclass of redir.Pass")
    return found


def fields_of(kind: type[Pass] | Pass) -> dict[str, Field[Any]]:
    """The options of a pass by name, those that it shares with others last."""
    return {f.name: f for f in sorted(fields(kind), key=lambda f: f.kw_only is True)}


def promised(kind: type[Pass]) -> tuple[Guarantee, ...]:
    """What a pass promises with its options at their defaults; nothing where one has none."""
    needed = [f for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    found = getattr(kind, "guarantees", ()) if needed else kind().guarantees
    return found if isinstance(found, tuple) else ()


_STEP = re.compile(r"\s*(?P<name>[\w-]+)\s*(?:\{(?P<options>[^{}]*)\})?\s*(?P<end>,|$)")


def _parse(spec: str) -> Iterator[Pass]:
    place = 0
    while spec[place:].strip():
        match = _STEP.match(spec, place)
        if match is None or (match["end"] == "," and not spec[match.end() :].strip()):
            raise BadPipeline(f"pipeline {spec!r}: {_wrong(spec[place:])}")
        yield _pass(match["name"], match["options"] or "")
        place = match.end()


def _wrong(rest: str) -> str:
    """Why no step can be read at the start of ``rest``."""
    name, opened, options = rest.partition("{")
    if opened and "}" not in options.partition("{")[0]:
        return f"the {{ after {name.strip()!r} is never closed"
    return f"expected name or name{{option=value,...}}, with commas between, at {rest!r}"


def _pass(name: str, options: str) -> Pass:
    kind = _installed(name)
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for option in filter(None, (o.strip() for o in options.split(","))):
        key, equals, text = (part.strip() for part in option.partition("="))
        if key not in fields_of(kind):
            known = ", ".join(fields_of(kind)) or "none"
            raise BadPipeline(f"pass {name!r} has no option {key!r}; it has {known}")
        if not equals:
            raise BadPipeline(f"pass {name!r}: option {key!r} has no value")
        if key in given:
            raise BadPipeline(f"pass {name!r}: option {key!r} is given twice")
        given[key] = _read(name, key, text, hints[key])
    return kind(**given)


def _read(name: str, key: str, text: str, hint: Any) -> Any:
    """The value of an option: the first of the types in ``hint`` that its text can be."""
    union = typing.get_origin(hint) in {typing.Union, types.UnionType}
    for kind in typing.get_args(hint) if union else (hint,):
        if kind is bool and text in {"true", "false"}:
            return text == "true"
        if kind is types.NoneType and text == "none":
            return None
        if typing.get_origin(kind) is typing.Literal and text in typing.get_args(kind):
            return text
        if kind in {int, float, str} and (kind is not str or text):
            try:
                return kind(text)
            except ValueError:
                continue
    raise BadPipeline(f"pass {name!r}: option {key}={text!r} is not {_expected(hint)}")


def _expected(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    return getattr(hint, "__name__", str(hint)).replace("typing.", "")


def _given(step: Pass, options: Mapping[str, Any]) -> Pass:
    free = {name for name in fields_of(step) if _is_default(step, name)}
    return replace(step, **{name: value for name, value in options.items() if name in free})


def _print(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _is_default(step: Pass, name: str) -> bool:
    option = fields_of(step)[name]
    default = option.default if option.default is not MISSING else None
    return bool(getattr(step, name) == default)
