"""What a module takes besides tensors in a row: nested arguments, defaults, and state.

A graph that came from PyTorch says in its shell what the arguments of ``forward`` were, where in
them each of its inputs stands, and which of its inputs and outputs are a buffer before and after.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redir.backends.torch.names import argument, is_field
from redir.ir import Graph

SHELL = b"torch:"  # what the shell of a graph starts with that came from PyTorch
_STARS = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}


@dataclass(frozen=True)
class Parameter:
    """An argument of ``forward``: its name, its kind as ``inspect`` has it, its default as text."""

    name: str
    kind: str
    default: str = ""

    @property
    def text(self) -> str:
        """As it stands in the definition."""
        return f"{_STARS.get(self.kind, '')}{self.name}{self.default and '='}{self.default}"


@dataclass(frozen=True)
class Leaf:
    """A part of an argument: of which one, the steps that reach it, and what it is.

    It is an input of the graph, or a constant that the module was read with, as text; neither
    where that is no plain constant.
    """

    parameter: int
    steps: tuple[tuple[str, Any], ...]
    input: str = ""
    constant: str = ""

    def reached(self, text: str) -> str:
        """How it is reached in the argument that is ``text``."""
        for kind, key in self.steps:
            if kind == "leaf":
                text = f"torch.utils._pytree.tree_leaves({text})[{int(key)}]"
            else:
                text += f".{key}" if kind == "field" and is_field(key) else f"[{text_of(key)}]"
        return text


@dataclass(frozen=True)
class Signature:
    """The arguments of ``forward`` and their parts."""

    parameters: tuple[Parameter, ...]
    leaves: tuple[Leaf, ...]

    @property
    def text(self) -> str:
        """The arguments as they stand in the definition."""
        parts: list[str] = ["self"]
        kinds = [p.kind for p in self.parameters]
        for place, parameter in enumerate(self.parameters):
            before = kinds[place - 1] if place else ""
            if before == "POSITIONAL_ONLY" != parameter.kind:
                parts.append("/")
            if parameter.kind == "KEYWORD_ONLY" and before not in {
                "KEYWORD_ONLY",
                "VAR_POSITIONAL",
            }:
                parts.append("*")
            parts.append(parameter.text)
        return ", ".join(parts + (["/"] if kinds[-1:] == ["POSITIONAL_ONLY"] else []))


@dataclass(frozen=True)
class State:
    """A buffer that forward changes: its name, and the input and the output that it is."""

    buffer: str
    input: str
    output: str


def shell(graph: Graph) -> Mapping[str, Any]:
    """What the graph's shell says, nothing if it did not come from PyTorch."""
    if not graph.shell.startswith(SHELL):
        return {}
    try:
        held = json.loads(graph.shell[len(SHELL) :])
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def states(graph: Graph) -> list[State]:
    """The buffers that the module changes, as far as the graph still has them."""
    try:
        found = [State(*map(str, names)) for names in shell(graph).get("state", [])]
    except TypeError:
        return []
    return [s for s in found if s.input in graph.defaults and s.output in graph.outputs]


def unreturned(graph: Graph) -> set[str]:
    """The outputs that the module does not return: state, and numbers that are always the same.

    It returns such numbers as they were, and not as tensors.
    """
    held = shell(graph).get("fixed", [])
    fixed = {name for name in held if isinstance(name, str)} if isinstance(held, list) else set()
    return fixed | {s.output for s in states(graph)}


def signature(graph: Graph) -> Signature | None:
    """The arguments of the module, unless its inputs are all there is to say."""
    held: Any = shell(graph).get("inputs")
    try:
        parameters = tuple(map(_parameter, held["parameters"]))
        leaves = tuple(_leaf(leaf, len(parameters)) for leaf in held["leaves"])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    read = [leaf.input for leaf in leaves if leaf.input]
    own = graph.inputs.keys() - {s.input for s in states(graph)}
    names = {p.name for p in parameters}
    fits = sorted(read) == sorted(own) and len(names) == len(parameters)
    return Signature(parameters, leaves) if fits else None


def _parameter(held: Any) -> Parameter:
    default = held.get("default")
    return Parameter(
        argument(held["name"]), str(held["kind"]), "" if default is None else literal(default)
    )


def literal(text: str) -> str:
    """A constant that is given as text, None if it is none."""
    try:
        return repr(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return "None"


def _leaf(held: Any, count: int) -> Leaf:
    steps = tuple((str(kind), key) for step in held["reach"] for kind, key in step.items())
    of = range(count)[held["of"]]
    if isinstance(held["is"], str):
        return Leaf(of, steps, input=held["is"])
    text = held["is"]["constant"]
    return Leaf(of, steps, constant="" if text is None else literal(text))


def text_of(key: object) -> str:
    """A key or a name as text, in the quotes that people use where it needs no escapes."""
    plain = isinstance(key, str) and not set(key) & {'"', "\\"} and key.isascii()
    return f'"{key}"' if plain and str(key).isprintable() else repr(key)
