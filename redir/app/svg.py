"""Drawing a graph as SVG: a box for each operator, coloured by the family its result carries."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree import ElementTree as ET

from redir.app.svg_colours import FILL, INK, LINE, PAPER, numbers, shade, style
from redir.app.svg_folding import Fold
from redir.app.svg_layout import Wire, placed
from redir.app.svg_rows import BOX, page
from redir.channels.families import Family, and_more, shortened, verdict
from redir.errors import visible
from redir.ir import Graph, Node, Value
from redir.ops import is_operator, tensor_of

_MARGIN, _HEAD, _ENTRY = 20, 72, (420, 38)
_LETTERS = 23  # that fit into a box
_NUMBERS = 3  # of families that a box names
_MANY = 30  # boxes, from which on blocks that are alike are drawn once

Wires: TypeAlias = "dict[Wire[Box], Value]"


@dataclass(frozen=True, eq=False)
class Box:
    """An operator, or an input or output of the graph, and the value whose channels it shows."""

    title: str
    name: str
    value: Value
    whole: str


def drawing(graph: Graph, families: Sequence[Family]) -> str:
    """The operators of ``graph`` as SVG, from left to right in rows, with a legend below.

    It is ASCII, depends on the graph alone, and is dark where the browser is.
    """
    boxes, wires = _boxes(graph)
    key = _key(families, wires)
    shown, wires, alike = _folded(boxes, wires, key)
    sheet = page(placed(shown, list(wires)), list(wires))
    width, height = max(sheet.size[0], 2 * _ENTRY[0]), sheet.size[1]
    rows = -(-len(families) // (width // _ENTRY[0]))
    whole = width + 2 * _MARGIN, _HEAD + height + rows * _ENTRY[1] + 2 * _MARGIN
    root = _root(*whole)
    _head(root, verdict(families), folded=bool(alike))
    drawn = _add(root, "g", transform=f"translate({_MARGIN} {_MARGIN + _HEAD})")
    for wire, value in wires.items():
        for box in wire.targets:
            _line(drawn, sheet.path(wire, box), key.colour(value))
    for box in shown:
        _draw_box(drawn, box, sheet.corner(box), key, alike.get(box, [box]))
    for place in range(len(families)):
        x = _MARGIN + place // rows * _ENTRY[0]
        y = _MARGIN + _HEAD + height + place % rows * _ENTRY[1]
        _entry(root, (x, y), key, place)
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


def _folded(
    boxes: Sequence[Box], wires: Wires, key: _Key
) -> tuple[Sequence[Box], Wires, Mapping[Box, Sequence[Box]]]:
    """Boxes and wires, of alike blocks once, and what a box stands for where these are several."""
    if len(boxes) < _MANY:
        return boxes, wires, {}
    place = {box: number for number, box in enumerate(boxes)}
    reads: list[list[int]] = [[] for _ in boxes]
    read_by: dict[tuple[int, int], list[int]] = {}
    for wire, value in wires.items():
        ends = [place[box] for box in wire.targets]
        read_by[place[wire.source], value.index] = ends
        for end in ends:
            reads[end].append(place[wire.source])
    fold = Fold([key.look(box) for box in boxes], reads)
    kept: Wires = {}
    for wire, value in wires.items():
        ends = fold.targets(place[wire.source], value.index, read_by)
        if place[wire.source] not in fold.hidden and ends:
            kept[Wire(wire.source, tuple(boxes[end] for end in ends))] = value
    shown = [box for box in boxes if place[box] not in fold.hidden]
    alike = {boxes[n]: [boxes[m] for m in same] for n, same in fold.stands_for.items()}
    return shown, kept, alike


def _operator(node: Node) -> Box:
    return Box(str(node.op), node.name, node.outputs[0], str(node))


@dataclass(frozen=True)
class _Key:
    """The families, the place of that of each value, and the number of the colour of each."""

    families: Sequence[Family]
    carried: Mapping[Value, int]
    colours: Sequence[int]

    def family(self, value: Value) -> Family | None:
        """The family that a value shows."""
        return self.families[self.carried[value]] if value in self.carried else None

    def look(self, box: Box) -> Hashable:
        """What a box has in common with those of other blocks that do the same."""
        family, node = self.family(box.value), box.value.node
        state = family and (family.width, family.free, family.pinned)
        if node is None or box.title == "output" or node.bodies:
            return box
        shapes = tuple(str(value.type) for value in node.inputs if tensor_of(value) is not None)
        return box.title, state, repr(sorted(node.attrs.items())), shapes

    def colour(self, value: Value) -> int:
        """The number of the colour of a value: 0 where it has no family."""
        return self.colours[self.carried[value]] if value in self.carried else 0


def _key(families: Sequence[Family], wires: Wires) -> _Key:
    carried = _carried(families)
    pairs = ((value, box.value) for wire, value in wires.items() for box in wire.targets)
    touching = [(carried[a], carried[b]) for a, b in pairs if a in carried and b in carried]
    return _Key(families, carried, numbers(len(families), touching))


def _carried(families: Sequence[Family]) -> Mapping[Value, int]:
    """For each value the place of its family: of several, the one of the most weights."""
    found: dict[Value, int] = {}
    for place, family in enumerate(families):
        for value, _ in family.ports:
            before = found.setdefault(value, place)
            if len(families[before].members) < len(family.members):
                found[value] = place
    return found


def _root(width: int, height: int) -> ET.Element:
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
    root.attrib |= {"width": str(width), "height": str(height)}
    root.set("viewBox", f"0 0 {width} {height}")
    ET.SubElement(root, "style").text = style()
    pattern = _add(ET.SubElement(root, "defs"), "pattern", id="hatch", width=7, height=7)
    pattern.attrib |= {"patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    _add(pattern, "rect", width=2, height=7, fill=INK).set("fill-opacity", "0.22")
    _add(root, "rect", width=width, height=height, fill=PAPER, **{"class": "paper"})
    return root


def _add(parent: ET.Element, tag: str, **attributes: object) -> ET.Element:
    return ET.SubElement(parent, tag, {name: str(value) for name, value in attributes.items()})


def _write(parent: ET.Element, x: int, y: int, text: str, kind: str = "") -> ET.Element:
    element = _add(parent, "text", x=x, y=y, **({"class": kind} if kind else {}))
    element.text = visible(text)
    return element


def _head(root: ET.Element, text: str, *, folded: bool) -> None:
    _write(root, _MARGIN, _MARGIN + 14, text, "head")
    keys = (("free", 0, 1), ("partly pinned", 1, 1), ("pinned", 1, 0), ("no family", 0, 0))
    for place, (key, pinned, free) in enumerate(keys):
        family = Family(pinned + free, pinned, (), (), ()) if pinned + free else None
        x, y = _MARGIN + 130 * place, _MARGIN + 30
        _swatch(root, (x, y, 28, 18), 1 if family else 0, family)
        _write(root, x + 36, y + 13, key)
    if folded:
        x, y = _MARGIN + 130 * len(keys), _MARGIN + 30
        _stack(root, (x, y, 28, 18))
        _swatch(root, (x, y, 28, 18), 0, None)
        _write(root, x + 42, y + 13, "blocks that are alike, drawn once")


def _stack(parent: ET.Element, where: tuple[int, int, int, int]) -> None:
    """Cards behind a rectangle, for others that are like it."""
    x, y, width, height = where
    for away in (6, 3):
        area = {"x": x + away, "y": y - away, "width": width, "height": height, "rx": 4}
        _add(parent, "rect", **area, fill=PAPER, stroke="#666666", **{"class": "paper"})


def _swatch(
    parent: ET.Element, where: tuple[int, int, int, int], colour: int, family: Family | None
) -> None:
    """A rectangle: hatched where the family is pinned, its right half where it is so in part."""
    x, y, width, height = where
    area = {"x": x, "y": y, "width": width, "height": height}
    _add(parent, "rect", **area, rx=4, fill=shade(colour, FILL), **{"class": f"f{colour}"})
    if family is not None and family.pinned:
        part = width // 2 if family.free else 0
        hatched = {**area, "x": x + part, "width": width - part}
        _add(parent, "rect", **hatched, rx=4, fill="url(#hatch)")
    _add(parent, "rect", **area, rx=4, fill="none", stroke="#666666")


def _draw_box(
    root: ET.Element, box: Box, corner: tuple[int, int], key: _Key, alike: Sequence[Box]
) -> None:
    """A box, as the first of several cards if it stands for several that are ``alike``."""
    (x, y), family = corner, key.family(box.value)
    group = _add(root, "g", **{"class": "box"})
    places = sorted({key.carried[each.value] for each in alike if each.value in key.carried})
    about = "no family" if family is None else _about(places, family)
    whole = ", ".join(each.whole for each in alike)
    ET.SubElement(group, "title").text = visible(f"{whole}: {about}")
    if len(alike) > 1:
        _stack(group, (x, y, *BOX))
    _swatch(group, (x, y, *BOX), key.colour(box.value), family)
    _write(group, x + 7, y + 15, shortened(visible(box.title), _LETTERS - 4), "op")
    if len(alike) > 1:
        _write(group, x + BOX[0] - 7, y + 15, f"\u00d7{len(alike)}", "times")
    _write(group, x + 7, y + 28, shortened(visible(box.name), _LETTERS))
    if family is not None:
        _write(group, x + 7, y + 40, about)


def _about(places: Sequence[int], family: Family) -> str:
    """The numbers of families that are alike, and how wide they are."""
    numbers = [str(place + 1) for place in places]
    if len(places) == 1:
        return f"family {numbers[0]}: {family.width} channels"
    some = numbers if len(numbers) <= _NUMBERS else [numbers[0], "...", numbers[-1]]
    return f"families {', '.join(some)}: {family.width} ch."


def _line(root: ET.Element, path: str, colour: int) -> None:
    _add(root, "path", d=path, stroke=shade(colour, LINE), **{"class": f"wire w{colour}"})


def _entry(root: ET.Element, corner: tuple[int, int], key: _Key, place: int) -> None:
    (x, y), family = corner, key.families[place]
    _swatch(root, (x, y, 28, 24), key.colours[place], family)
    names = list(dict.fromkeys(member.name for member in family.members))
    state = f"{_about([place], family)}, {family.state}"
    by = f" by {shortened(str(family.pins[0].cause))}" if family.pins else ""
    _write(root, x + 36, y + 10, state + by)
    _write(root, x + 36, y + 22, and_more(names))
