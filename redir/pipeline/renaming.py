"""Where the constants of a graph are in what became of it."""

from __future__ import annotations

from typing import Any

from redir.ir import Graph, Source


def renamed(before: Graph, after: Graph) -> dict[str, Any]:
    """For each named constant of ``before``: its name now, None if gone, and the channels kept.

    ``channels`` gives, for each axis that was narrowed, the old index of each channel that is left.
    """
    sources = [n.source for n in after.nodes if not n.inputs and n.source]
    left = {source.origin: source for source in sources}
    left |= {source.outputs[0]: source for source in sources if source.outputs}
    names = (node.result_name for node in before.nodes if not node.inputs)
    return {name: _entry(name, left.get(name)) for name in names if name}


def _entry(name: str, source: Source | None) -> dict[str, Any]:
    """What is left of the constant ``name``: it, or what was computed from it alone."""
    if source is None or not source.outputs:
        return {"name": None, "channels": {}}
    if source.outputs[:1] == (name,):
        return {"name": name, "channels": {str(a): list(kept) for a, kept in source.channels}}
    kept = {source.axes[a]: list(kept) for a, kept in source.channels if a < len(source.axes)}
    channels = {str(a): kept[a] for a in sorted(kept) if a >= 0}
    return {"name": source.outputs[0], "channels": channels}
