"""Einsum: the letters of its equation say which axes are one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redir.ir import Link, Node, Port, Value
from redir.ops.links import along, contracted

_REST = "..."
_PAIR = 2


def links(node: Node) -> Iterator[Link]:
    """An axis that is kept with that of the result; one that is summed over with its other half.

    What an ellipsis stands for is not followed, nor a letter that stands twice in one operand or
    is summed over in more than two.
    """
    equation, values = _Equation.of(node), [*node.inputs, *node.outputs]
    if any(value.rank is None for value in values):
        return
    terms = [_axes(t, v) for t, v in zip([*equation.terms, equation.result], values, strict=True)]
    for letter in sorted({letter for term in terms for letter in term}):
        places = [term.get(letter, []) for term in terms]
        ports = [(v, a) for v, axes in zip(values, places, strict=True) for a in axes]
        if any(axis >= (value.rank or 0) for value, axis in ports):
            continue  # an equation that does not fit, in a file that is damaged
        sizes = {value.type.size(axis) for value, axis in ports}
        if len(sizes) == 1 and all(len(axes) <= 1 for axes in places):
            yield from _tied(ports, kept=bool(places[-1]))


def _tied(ports: Sequence[Port], *, kept: bool) -> Iterator[Link]:
    """The axes of one letter, the last of which is the result's if it is kept."""
    if kept:
        for port in ports[:-1]:
            yield from along(*port, *ports[-1])
    elif len(ports) <= _PAIR:
        yield from contracted(*ports[0], *ports[-1])


@dataclass(frozen=True)
class _Equation:
    """The letters of each operand and of the result."""

    terms: Sequence[str]
    result: str

    @classmethod
    def of(cls, node: Node) -> _Equation:
        left, arrow, right = str(node.attrs["equation"]).replace(" ", "").partition("->")
        terms = left.split(",")
        if arrow:
            return cls(terms, right)
        letters = left.replace(",", "").replace(_REST, "")
        once = "".join(sorted(c for c in letters if letters.count(c) == 1))
        return cls(terms, (_REST if _REST in left else "") + once)


def _axes(term: str, value: Value) -> dict[str, list[int]]:
    """The axes of ``value`` that each letter names; behind an ellipsis they count from the end."""
    before, _, behind = term.partition(_REST)
    last = (value.rank or 0) - len(behind)
    found: dict[str, list[int]] = {}
    for axis, letter in [*enumerate(before), *enumerate(behind, last)]:
        found.setdefault(letter, []).append(axis)
    return found
