"""Where ids of words go: the tables that they look up, and the outputs that have one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from redir import ops
from redir.channels.coupling import Coupling
from redir.channels.sizes import taken
from redir.ir import Graph, Node, Port, Value, width
from redir.ir.tensor import Array
from redir.ops import tensor_of


@dataclass
class Ids:
    """What reads an input of ids: tables, and comparisons with the constant at a place."""

    name: str
    tables: list[Node] = field(default_factory=list)
    compared: list[tuple[Node, int]] = field(default_factory=list)
    obstacle: str = ""
    most: int = np.iinfo(np.int64).max  # that each type holds which ids have on their way

    @property
    def size(self) -> int:
        """How many ids there are."""
        return width((self.tables[0].inputs[0], 0)) if self.tables else 0


@dataclass(frozen=True)
class Vocabulary:
    """Ids, the ports that have a channel for each, and the outputs among these by name."""

    ids: Ids
    ports: Sequence[Port]
    outputs: dict[str, int]


def ids_of(graph: Graph, name: str = "") -> Ids | str:
    """The input ``name`` of ids, or that which looks up the largest table; or why there is none."""
    whole = [n for n, v in graph.inputs.items() if v.type.dtype.kind in "iu" and name in {"", n}]
    found = [ids for n in whole if (ids := _followed(graph, n)).tables]
    if not found:
        what = f"input {name!r}" if name else "no input of whole numbers"
        return f"{what} looks up {'no' if name else 'a'} constant table"
    ids = max(found, key=lambda ids: ids.size)
    rows = [width((node.inputs[0], 0)) for node in ids.tables]
    if len(set(rows)) > 1:
        return f"input {ids.name!r} looks up tables of {min(rows)} and of {max(rows)} rows"
    if ids.most < ids.size - 1:
        return f"ids of input {ids.name!r} end at {ids.most}, below {ids.size} rows"
    return ids.obstacle or ids


def _followed(graph: Graph, name: str) -> Ids:
    """What the ids of an input reach."""
    found, start = Ids(name), graph.inputs[name]
    for value in (order := [start]):
        found.most = min(found.most, np.iinfo(value.type.dtype).max)
        if value in graph.outputs.values():
            found.obstacle = found.obstacle or f"the graph gives out ids of input {name!r}"
        for node in graph.readers.get(value, ()):
            if not _takes(found, node, value):
                order += _moved(node, value)
                if not _moved(node, value):
                    why = f"{node} reads ids of input {name!r}, and not only to look them up"
                    found.obstacle = found.obstacle or why
    return found


def _takes(found: Ids, node: Node, value: Value) -> bool:
    """Whether a node looks ids up, compares them with constants, or asks how many there are."""
    alone = node.inputs.count(value) == 1
    if node.op == ops.Gather and alone and node.inputs[1] is value and not node.attrs.get("axis"):
        found.tables.append(node)
        return True
    if node.op == ops.Equal and alone:
        place = 1 - node.inputs.index(value)
        found.compared += [(node, place)] if tensor_of(node.inputs[place]) is not None else []
        return tensor_of(node.inputs[place]) is not None
    return node.op in (ops.Shape, ops.Size)


def _moved(node: Node, value: Value) -> Sequence[Value]:
    """The results that hold the ids, moved or as whole numbers of another type."""
    whole = all(v.type.dtype.kind in "iu" for v in node.outputs)
    moves = node.has("moves_data") or node.op == ops.Cast
    alone = node.inputs.index(value) == 0 and node.inputs.count(value) == 1
    one = moves and node.op.terms(node) == ((0,),)
    return node.outputs if one and alone and whole and node.inputs else ()


def vocabulary(graph: Graph, ids: Ids) -> Vocabulary | str:
    """The axes that have a channel for each id, or why one of them must stay as it is."""
    coupling = graph.analysis(Coupling)
    reached, outputs = dict[Port, None](), dict[str, int]()
    for node in ids.tables:
        reached.update(dict.fromkeys(_family(coupling, (node.inputs[0], 0))))
    for name, value in graph.outputs.items():
        for axis in range(value.rank or 0):
            family = _family(coupling, (value, axis)) if width((value, axis)) == ids.size else []
            if family and not any(tensor_of(v) and v.rank == _MATRIX for v, _ in family):
                return f"output {name!r} has a number for each id, but no weight alone makes these"
            if family:
                reached.update(dict.fromkeys(family))
                outputs[name] = axis
    whys = (_obstacle(coupling, port, ids.tables) for port in reached)
    why = next(filter(None, whys), None)
    return why or Vocabulary(ids, list(reached), outputs)


_MATRIX = 2


def _family(coupling: Coupling, start: Port) -> list[Port]:
    """The axes that are tied to one."""
    reached = dict.fromkeys([start])
    for port in (order := [start]):
        for _, link in coupling.links_of(port):
            more = [p for p in (link.a, link.b) if p not in reached]
            reached.update(dict.fromkeys(more))
            order += more
    return order


def _obstacle(coupling: Coupling, port: Port, tables: Sequence[Node]) -> str | None:
    """Why an axis must keep all its ids, if it must."""
    value, axis = port
    links = coupling.links_of(port)
    odd = [n for n, link in links if link.kind != "same" or not _is_straight(port, link.index)]
    if odd:
        return f"{odd[0]} mixes what is of each id"
    if value.node is None:
        return f"an input of the graph has all ids along axis {axis}"
    tied, mine = {node for node, _ in links}, set(tables if axis == 0 else ())
    others = [n for n in coupling.graph.readers.get(value, ()) if n not in tied | mine]
    others += [value.node] if tensor_of(value) is None and value.node not in tied else []
    asking = [n for n in others if n.op != ops.Shape or port in taken(coupling.graph, n)]
    return f"{asking[0]} needs what is of all ids" if asking else None


def _is_straight(port: Port, index: Array) -> bool:
    return np.array_equal(index, np.arange(width(port)))
