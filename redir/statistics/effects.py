"""What it does to the outputs of a graph that others stand for its weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, TypeAlias

from redir import ops
from redir.cost.allocation import Option
from redir.errors import TooLarge, Unsupported
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array
from redir.statistics.rest import Rest
from redir.statistics.sources import Source
from redir.statistics.stretches import Stretches
from redir.statistics.walk import Batches, Held, cut, far, outputs, walk

Options: TypeAlias = Mapping[Value, Sequence[Option[Array]]]
"""For each weight what may stand for it: first itself."""

_EXAMPLES = 32


def weighed(
    graph: Graph, options: Options, source: Source, examples: int, original: Graph
) -> Options:
    """The options with what each does to the outputs as its error.

    That is seen on ``examples`` (0: 32) of a source, made for the ``original`` of the graph. Where
    the graph cannot be run, the errors stay what they are.

    Raises:
        TooLarge: to run it takes too much memory, or time.
    """
    try:
        batches = cut(graph, source.batches(original, examples or _EXAMPLES, 0))
        return effects(graph, options, batches)
    except TooLarge:  # about which something can be done
        raise
    except Unsupported:
        return options


def effects(graph: Graph, options: Options, batches: Batches) -> Options:
    """The options with how far the outputs go under each alone, in shares of their variance.

    Only what is behind a weight is run again. Where outputs are not finite, errors stay.

    Raises:
        Unsupported: the graph cannot be run.
    """
    plain, found = outputs(graph, batches), dict[Value, Sequence[Option[Array]]]()
    readers, stretches = _first_readers(graph, options), Stretches(graph)

    def step(node: Node, _: list[list[Any]], held: Held) -> list[Sequence[Any]] | None:
        for value in readers.get(node, ()):
            rest, (itself, *others) = Rest.behind(stretches, node, held), options[value]
            made = ((o, rest.outputs_with({value: ops.constant(o.what)})) for o in others)
            found[value] = [itself, *(_seen(o, far(plain, moved)) for o, moved in made)]
        return None

    walk(graph, batches, step, "effects of weights")
    return found


def _first_readers(graph: Graph, options: Options) -> Mapping[Node, Sequence[Value]]:
    """The weights that each node reads and none before it did."""
    found, seen = defaultdict[Node, list[Value]](list), set[Value]()
    for node in graph.nodes:
        new = [v for v in dict.fromkeys(node.inputs) if v in options and v not in seen]
        seen.update(new)
        found[node] += new
    return found


def _seen(option: Option[Array], moved: float) -> Option[Array]:
    return replace(option, error=moved) if isfinite(moved) else option
