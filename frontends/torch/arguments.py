"""What ``forward`` takes: its parameters, and where in them each tensor stands."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redir.frontends.torch import pytree

Step = dict[str, Any]
_POSITIONAL = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")


def of_module(module: Any) -> list[dict[str, Any]]:
    """The parameters of a module's ``forward``, with their defaults as text."""
    return [_described(p) for p in inspect.signature(module.forward).parameters.values()]


def _described(parameter: inspect.Parameter) -> dict[str, Any]:
    """A parameter; a default that is no plain constant is None."""
    found: dict[str, Any] = {"name": parameter.name, "kind": parameter.kind.name}
    if parameter.default is not parameter.empty:
        found["default"] = literal(parameter.default) or "None"
    return found


def literal(held: Any) -> str | None:
    """A plain constant as text that Python reads back."""
    try:
        again = ast.literal_eval(repr(held))
    except (ValueError, SyntaxError):
        return None
    return repr(held) if type(again) is type(held) and again == held else None


def of_program(program: Any) -> list[dict[str, Any]]:
    """The parameters of a program that was saved, which only says their names."""
    call = program.module_call_graph[0].signature
    args, kwargs = program.call_spec.in_spec.children()
    count = len(args.children())
    names = list(getattr(call, "forward_arg_names", None) or ())[:count]
    names += [f"arg{i}" for i in range(len(names), count)]
    names += [str(k) for k in kwargs.context]
    return [{"name": n, "kind": "POSITIONAL_OR_KEYWORD"} for n in names]


def leaves(spec: Any, parameters: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each leaf of what was given: of which parameter it is, and how it is reached from there.

    A step is an ``item`` by its key, a ``field`` by its name, or the place of a ``leaf`` in an
    object that does not say what it holds.
    """
    args, kwargs = spec.children()
    for place, part in enumerate(args.children()):
        for rest in _reached(part):
            of, reach = _positional(place, parameters)
            yield {"of": of, "reach": [*reach, *rest]}
    for key, part in zip(kwargs.context, kwargs.children(), strict=True):
        for rest in _reached(part):
            of, reach = _named(key, parameters)
            yield {"of": of, "reach": [*reach, *rest]}


def left_out(spec: Any, parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parameters that were not given, and so were what their defaults are."""
    args, kwargs = spec.children()
    given = {_positional(place, parameters)[0] for place in range(len(args.children()))}
    given |= {_named(key, parameters)[0] for key in kwargs.context}
    return [
        {"of": k, "reach": [], "is": {"constant": p["default"]}}
        for k, p in enumerate(parameters)
        if k not in given and "default" in p
    ]


def _positional(place: int, parameters: Sequence[Mapping[str, Any]]) -> tuple[int, list[Step]]:
    kinds = [p["kind"] for p in parameters]
    count = sum(kind in _POSITIONAL for kind in kinds)
    if place < count:
        return place, []
    return kinds.index("VAR_POSITIONAL"), [{"item": place - count}]


def _named(key: str, parameters: Sequence[Mapping[str, Any]]) -> tuple[int, list[Step]]:
    for place, parameter in enumerate(parameters):
        usable = parameter["kind"] in {"POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY"}
        if parameter["name"] == key and usable:
            return place, []
    return [p["kind"] for p in parameters].index("VAR_KEYWORD"), [{"item": key}]


def _reached(spec: Any) -> Iterator[list[Step]]:
    """The steps to each leaf of a tree spec."""
    if spec.is_leaf():
        yield []
        return
    kind = pytree.way(spec)
    if kind == "leaf":
        yield from ([{"leaf": place}] for place in range(spec.num_leaves))
        return
    for key, part in pytree.children(spec):
        for rest in _reached(part):
            yield [{kind: key}, *rest]
