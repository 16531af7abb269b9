"""Which blocks of layers go as a whole, before forms are chosen for the layers that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from redir.cost.allocation import Option, allocated, joined
from redir.ir import Node
from redir.passes.factorize.gone import Gone
from redir.passes.factorize.solving import Choice

Options: TypeAlias = Mapping[Node, Sequence[Option[Choice | None]]]


def without_blocks(options: Options, budget: float) -> Options:
    """The options of the layers that stay, and of blocks that go that alone.

    A block that goes saves what its layers cost in the best of their forms, which depends on what
    an error may cost: so it is one option beside all that its layers may become together. Costs are
    what is saved, below 0.
    """
    stays = {node: [o for o in found if not _block(o)] for node, found in options.items()}
    ends = {node: o for node, found in options.items() for o in found if _block(o)}
    if not ends:
        return options
    chosen = allocated(_together(stays, ends), budget)
    going = frozenset[Node]().union(*(option.what for option in chosen.values()))
    lost = frozenset[Node]().union(*(_block(ends[node]) for node in going))
    left = {node: found for node, found in stays.items() if node not in lost}
    return {**left, **{node: [ends[node]] for node in going}}


def _together(
    stays: Options, ends: Mapping[Node, Option[Choice | None]]
) -> Mapping[Node, Sequence[Option[frozenset[Node]]]]:
    """For each block, or layer outside of any, what it may cost; what ends the blocks that go."""
    none = frozenset[Node]()
    found: dict[Node, Sequence[Option[frozenset[Node]]]] = {
        node: [Option(none, o.cost, o.error) for o in each] for node, each in stays.items()
    }
    for node, end in sorted(ends.items(), key=lambda item: len(_block(item[1]))):
        whole = joined([found.pop(each) for each in list(found) if each in _block(end)])
        ways = [Option(none.union(*o.what), o.cost, o.error) for o in whole]
        found[node] = [*ways, Option(frozenset({node}), end.cost, end.error)]
    return found


def _block(option: Option[Choice | None]) -> frozenset[Node]:
    """What goes with an option, if it is that."""
    form = option.what.form if option.what else None
    return form.needed if isinstance(form, Gone) else frozenset()
