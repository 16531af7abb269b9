"""Printing a graph as Python that ``redir.text.parse`` reads back."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redir.ir import Graph, Node, Value

Printer = Callable[[Any], str]


def show(graph: Graph, attr: Printer = repr) -> str:
    """The text of ``graph``; ``attr`` prints the attributes."""
    return "\n".join(_function(graph, attr, set(), "main")) + "\n"


def _function(graph: Graph, attr: Printer, taken: set[str], name: str) -> Iterator[str]:
    names: dict[Value, str] = {v: _fresh(n, taken) for n, v in graph.inputs.items()}
    yield f"@graph({', '.join(_header(graph, names, attr))})"
    params = ", ".join(f"{names[v]}: {v.type}" for v in graph.inputs.values())
    yield f"def {name}({params}):"
    for node in graph.nodes:
        yield from (f"    {line}" for line in _statement(node, names, attr, taken))
    results = ", ".join(f"{n!r}: {names[v]}" for n, v in graph.outputs.items())
    yield f"    return {{{results}}}"


def _header(graph: Graph, names: dict[Value, str], attr: Printer) -> Iterator[str]:
    yield f"{graph.name!r}"
    if graph.opset:
        yield f"opset={dict(graph.opset)!r}"
    odd = {names[v]: name for name, v in graph.inputs.items() if names[v] != name}
    if odd:
        yield f"inputs={odd!r}"
    if graph.defaults:
        pairs = ", ".join(f"{name!r}: {attr(t)}" for name, t in graph.defaults.items())
        yield f"defaults={{{pairs}}}"


def _statement(
    node: Node, names: dict[Value, str], attr: Printer, taken: set[str]
) -> Iterator[str]:
    given = [names[v] for v in node.inputs]
    for key, held in sorted(node.attrs.items()):
        if hasattr(held, "nodes"):
            body = _fresh(key, taken)
            yield from _function(held, attr, taken, body)
            given.append(f"{key}={body}")
        else:
            given.append(f"{key}={attr(held)}")
    called = node.source.outputs if node.source else ()
    for value, name in zip(node.outputs, [*called, *[""] * node.arity], strict=False):
        names[value] = _fresh(name, taken)
    targets = [names[v] for v in node.outputs]
    if len(targets) == 1:
        yield f"{targets[0]}: {node.outputs[0].type} = {node.op}({', '.join(given)})"
    else:
        yield from (f"{names[v]}: {v.type}" for v in node.outputs)
        yield f"{', '.join(targets)} = {node.op}({', '.join(given)})"


def _fresh(wish: str, taken: set[str]) -> str:
    """The name wished for, if it is an identifier that is not taken; else the next number."""
    plain = wish.isidentifier() and not keyword.iskeyword(wish) and wish not in taken
    name = wish if plain and not is_numbered(wish) else _next(taken)
    taken.add(name)
    return name


def _next(taken: set[str]) -> str:
    count = len(taken)
    while f"v{count}" in taken:
        count += 1
    return f"v{count}"


def is_numbered(name: str) -> bool:
    """Whether a name is one that the printer gives: v and a number."""
    return name[:1] == "v" and name[1:].isdigit()
