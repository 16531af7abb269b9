"""Drawing a graph as SVG: a box for each operator, coloured by the family its result carries."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree import ElementTree as ET

from redir.app.svg_layout import Lanes, Wire, placed
from redir.channels.families import Family, and_more, shortened, verdict
from redir.errors import visible
from redir.ir import Graph, Node, Value
from redir.ops import is_operator

_BOX, _GAP = (150, 46), (34, 18)
_MARGIN, _HEAD, _ENTRY = 20, 72, (420, 38)
_LETTERS = 23  # that fit into a box
_PLAIN, _INK = "#ffffff", "#222222"
_STYLE = (
    f"text{{font:10px sans-serif;fill:{_INK}}}.op{{font-size:12px;font-weight:bold}}"
    ".head{font-size:16px;font-weight:bold}.wire{fill:none;stroke-width:2}"
)

Wires: TypeAlias = "dict[Wire[Box], Value]"


@dataclass(frozen=True, eq=False)
class Box:
    """An operator, or an input or output of the graph, and the value whose channels it shows."""

    title: str
    name: str
    value: Value
    whole: str


def drawing(graph: Graph, families: Sequence[Family]) -> str:
    """The operators of ``graph`` from left to right as SVG, with a legend below.

    It is ASCII, and depends on the graph alone.
    """
    boxes, wires = _boxes(graph)
    lanes, carried = placed(boxes, list(wires)), _carried(families)
    size = [1 + max(places.values(), default=0) for places in (lanes.column, lanes.lane)]
    size[1] = max([size[1], *(1 + lane for lane in lanes.passing.values())])
    width, height = (n * (b + g) for n, b, g in zip(size, _BOX, _GAP, strict=True))
    columns = max(1, min(4, (width - _GAP[0]) // _ENTRY[0]))
    rows = -(-len(families) // columns)
    whole = max(width, 2 * _ENTRY[0]), _HEAD + height + rows * _ENTRY[1]
    root = _root(whole[0] + 2 * _MARGIN, whole[1] + 2 * _MARGIN)
    _head(root, verdict(families))
    for wire, value in wires.items():
        _draw_wire(root, wire, lanes, _colour(carried.get(value), dark=True))
    for box in boxes:
        _draw_box(root, box, lanes, carried.get(box.value), families)
    for place, family in enumerate(families):
        x = _MARGIN + place // rows * _ENTRY[0]
        y = _MARGIN + _HEAD + height + place % rows * _ENTRY[1]
        _entry(root, (x, y), place, family)
    ET.indent(root, " ")
    text: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode() + "\n"


def _boxes(graph: Graph) -> tuple[list[Box], Wires]:
    """What is drawn: the inputs, the operators and the outputs, and the values between them."""
    inputs = {v: Box("input", name, v, f"input {name!r}") for name, v in graph.inputs.items()}
    nodes = {node: _operator(node) for node in graph.nodes if is_operator(node)}
    outputs = [
        (Box("output", name, value, f"output {name!r}"), value)
        for name, value in graph.outputs.items()
    ]
    readers: dict[Value, list[Box]] = {}
    for value, reading in graph.readers.items():
        readers[value] = [nodes[node] for node in reading]
    for box, value in outputs:
        readers.setdefault(value, []).append(box)
    sources = {**inputs, **{v: box for node, box in nodes.items() for v in node.outputs}}
    wires = {
        Wire(box, tuple(readers[value])): value
        for value, box in sources.items()
        if value in readers
    }
    return [*inputs.values(), *nodes.values(), *(box for box, _ in outputs)], wires


def _operator(node: Node) -> Box:
    return Box(str(node.op), node.name, node.outputs[0], str(node))


def _carried(families: Sequence[Family]) -> Mapping[Value, int]:
    """For each value the place of its family: of several, the one of the most weights."""
    found: dict[Value, int] = {}
    for place, family in enumerate(families):
        for value, _ in family.ports:
            before = found.setdefault(value, place)
            if len(families[before].members) < len(family.members):
                found[value] = place
    return found


def _colour(place: int | None, *, dark: bool = False) -> str:
    """A colour for each family, unlike those of its neighbours."""
    if place is None:
        return "#999999" if dark else _PLAIN
    hue, light = place * 0.618034 % 1, 0.42 if dark else 0.82
    rgb = colorsys.hls_to_rgb(hue, light, 0.7)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _root(width: int, height: int) -> ET.Element:
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
    root.attrib |= {"width": str(width), "height": str(height)}
    root.set("viewBox", f"0 0 {width} {height}")
    ET.SubElement(root, "style").text = _STYLE
    pattern = _add(ET.SubElement(root, "defs"), "pattern", id="hatch", width=7, height=7)
    pattern.attrib |= {"patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    _add(pattern, "rect", width=2, height=7, fill="#000000").set("fill-opacity", "0.16")
    _add(root, "rect", width=width, height=height, fill=_PLAIN)
    return root


def _add(parent: ET.Element, tag: str, **attributes: object) -> ET.Element:
    return ET.SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})


def _write(parent: ET.Element, x: int, y: int, text: str, kind: str = "") -> ET.Element:
    element = _add(parent, "text", x=x, y=y, **({"class": kind} if kind else {}))
    element.text = visible(text)
    return element


def _head(root: ET.Element, text: str) -> None:
    _write(root, _MARGIN, _MARGIN + 14, text, "head")
    keys = (("free", 0, 1), ("partly pinned", 1, 1), ("pinned", 1, 0), ("no family", 0, 0))
    for place, (key, pinned, free) in enumerate(keys):
        family = Family(pinned + free, pinned, (), (), ()) if pinned + free else None
        x, y = _MARGIN + 130 * place, _MARGIN + 30
        _swatch(root, (x, y, 28, 18), _colour(0 if family else None), family)
        _write(root, x + 36, y + 13, key)


def _swatch(
    parent: ET.Element, where: tuple[int, int, int, int], colour: str, family: Family | None
) -> None:
    """A rectangle: hatched where the family is pinned, its right half where it is so in part."""
    x, y, width, height = where
    area = {"x": x, "y": y, "width": width, "height": height}
    _add(parent, "rect", **area, rx=4, fill=colour)
    if family is not None and family.pinned:
        part = width // 2 if family.free else 0
        hatched = {**area, "x": x + part, "width": width - part}
        _add(parent, "rect", **hatched, rx=4, fill="url(#hatch)")
    _add(parent, "rect", **area, rx=4, fill="none", stroke="#666666")


def _draw_box(
    root: ET.Element, box: Box, lanes: Lanes[Box], place: int | None, families: Sequence[Family]
) -> None:
    x, y = _corner(lanes.column[box], lanes.lane[box])
    family = None if place is None else families[place]
    group = ET.SubElement(root, "g")
    about = "no family" if place is None or family is None else _about(place, family)
    ET.SubElement(group, "title").text = visible(f"{box.whole}: {about}")
    _swatch(group, (x, y, *_BOX), _colour(place), family)
    _write(group, x + 7, y + 15, shortened(visible(box.title), _LETTERS - 4), "op")
    _write(group, x + 7, y + 28, shortened(visible(box.name), _LETTERS))
    if family is not None:
        _write(group, x + 7, y + 40, about)


def _about(place: int, family: Family) -> str:
    return f"family {place + 1}: {family.width} channels"


def _corner(column: int, lane: int) -> tuple[int, int]:
    return (
        _MARGIN + column * (_BOX[0] + _GAP[0]),
        _MARGIN + _HEAD + lane * (_BOX[1] + _GAP[1]),
    )


def _draw_wire(root: ET.Element, wire: Wire[Box], lanes: Lanes[Box], colour: str) -> None:
    start, own = lanes.column[wire.source], lanes.lane[wire.source]
    for box in wire.targets:
        end, lane = lanes.column[box], lanes.lane[box]
        path = f"M{_right(start, own)}"
        if end > start + 1:
            passing = lanes.passing[wire]
            path += _curve(start, own, passing) + f"H{_corner(end - 1, 0)[0] + _BOX[0]}"
            path += _curve(end - 1, passing, lane)
        else:
            path += _curve(start, own, lane)
        _add(root, "path", d=path, stroke=colour, **{"class": "wire"})


def _right(column: int, lane: int) -> str:
    x, y = _corner(column, lane)
    return f"{x + _BOX[0]},{y + _BOX[1] // 2}"


def _curve(column: int, lane: int, to: int) -> str:
    """From the right edge of a column to the next column, from one lane to another."""
    left, y = (int(n) for n in _right(column, lane).split(","))
    right, other = left + _GAP[0], _corner(0, to)[1] + _BOX[1] // 2
    middle = (left + right) // 2
    return f"C{middle},{y} {middle},{other} {right},{other}"


def _entry(root: ET.Element, corner: tuple[int, int], place: int, family: Family) -> None:
    x, y = corner
    _swatch(root, (x, y, 28, 24), _colour(place), family)
    names = list(dict.fromkeys(member.name for member in family.members))
    state = f"{_about(place, family)}, {family.state}"
    by = f" by {shortened(str(family.pins[0].cause))}" if family.pins else ""
    _write(root, x + 36, y + 10, state + by)
    _write(root, x + 36, y + 22, and_more(names))
