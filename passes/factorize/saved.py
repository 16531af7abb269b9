"""What a graph costs less without some channels or blocks, counted once for those alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from redir.cost import Sizes, macs, parameters
from redir.ir import Graph, Node, Port, Value
from redir.ops import tensor_of
from redir.passes.factorize.forms import MULTIPLY_ADDS, PARAMETERS

Saved: TypeAlias = Mapping[str, int]
"""What is saved, by price."""


@dataclass(frozen=True, eq=False)
class Savings:
    """What the graph of ``sizes`` costs less without some of it, at these sizes.

    A model of many blocks that are alike is counted once, and once without a part of one of them.
    """

    sizes: Sizes
    _found: dict[Hashable, Saved] = field(default_factory=dict)

    def of(
        self, nodes: Iterable[Node], without: Callable[[], Graph], ports: Collection[Port] = ()
    ) -> Saved:
        """What is saved where only ``nodes`` cost less, or go, ``without`` what goes.

        If channels go, they are at some ``ports`` of these.
        """
        key = tuple(sorted((self._about(node, ports) for node in nodes), key=repr))
        if key not in self._found:
            after = self._counted(without())
            self._found[key] = {price: n - after[price] for price, n in self._whole.items()}
        return self._found[key]

    @cached_property
    def _whole(self) -> Saved:
        return self._counted(self.sizes.graph)

    def _counted(self, graph: Graph) -> Saved:
        return {MULTIPLY_ADDS: macs(graph, self.sizes.shapes), PARAMETERS: parameters(graph)}

    def _about(self, node: Node, ports: Collection[Port]) -> Hashable:
        """All of a node that its cost hangs on, and that of what it reads."""
        values = (*node.inputs, *node.outputs)
        lost = [(v, axis) in ports for v in values for axis in range(v.rank or 0)]
        attrs = [(name, _plain(value)) for name, value in sorted(node.attrs.items())]
        return str(node.op), tuple(attrs), tuple(map(self._of_value, values)), tuple(lost)

    def _of_value(self, value: Value) -> Hashable:
        type_, shared = self.sizes.type(value), self.sizes.graph.uses[value]
        return str(type_), shared if tensor_of(value) is not None else 0


def _plain(value: Any) -> Hashable:
    """A value of an attribute; of what holds many numbers only what it is."""
    return value if isinstance(value, int | float | str | bytes | tuple) else str(type(value))
