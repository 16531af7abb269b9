"""A graph in a notebook: a table of its layers, and the drawing of its channels."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator, Sequence

from redir.app.svg import drawing
from redir.app.tables import cell
from redir.channels.families import families
from redir.check.guarantees import operations
from redir.cost import Cost, Layer, layers
from redir.ir import Graph, Value
from redir.pipeline import Pipeline

_COLUMNS = ("parameters", "macs", "bytes")
_ROWS = 40  # layers that a table shows
_DRAWN = 500  # operators of a graph that is drawn


def page(graph: Graph) -> str:
    """The table and the drawing as HTML, in which all that a model says is plain text.

    The drawing is an image with everything in it, so that its style and its names stay inside. A
    graph of more than 500 operators is not drawn.
    """
    return "".join(_parts(graph))


def _parts(graph: Graph) -> Iterator[str]:
    found = layers(graph, values=False)
    total = sum((layer.cost for layer in found), Cost())
    count = operations(graph)
    counts = f"operators: {count:,}, layers: {len(found):,}"
    yield f"<div><p><b>{_text(graph.name)}</b>, {counts}</p>"
    for kind, values in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        yield f"<p>{kind}: {_interface(values.items())}</p>"
    yield "<details open><summary>layers</summary><table>"
    yield _row("th", ("layer", "operator", *_COLUMNS))
    yield from (_row("td", _cells(layer)) for layer in found[:_ROWS])
    if len(found) > _ROWS:
        yield _row("td", (f"and {len(found) - _ROWS:,} more", "", *[""] * len(_COLUMNS)))
    yield _row("th", ("total", "", *(getattr(total, name) for name in _COLUMNS)))
    yield "</table></details>"
    if count <= _DRAWN:
        yield f"<details><summary>channels</summary>{_image(graph)}</details>"
    yield "</div>"


def _interface(values: Iterable[tuple[str, Value]]) -> str:
    return ", ".join(f"{_text(name)}: {_text(value.type)}" for name, value in values)


def _cells(layer: Layer) -> Sequence[object]:
    return (layer.name or "-", layer.op, *(getattr(layer.cost, name) for name in _COLUMNS))


def _row(tag: str, cells: Sequence[object]) -> str:
    """A row of which the first two cells are words, and the others numbers."""
    sides = ("left", "left", *["right"] * (len(cells) - 2))
    made = (
        f'<{tag} style="text-align:{side}">{_text(each)}</{tag}>'
        for side, each in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(made)}</tr>"


def _image(graph: Graph) -> str:
    clean = Pipeline.parse("fold-constants").run(graph)  # as redir groups does
    code = base64.b64encode(drawing(clean, families(clean)).encode()).decode()
    return f'<img alt="channels of the graph" src="data:image/svg+xml;base64,{code}">'


def _text(value: object) -> str:
    return html.escape(cell(value))
