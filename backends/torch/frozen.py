"""Parameters that are not trained: the statements that say so, one for a module where that does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from redir.backends.torch.emit.flow import Flow
from redir.backends.torch.emit.text import Path

_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


def frozen_lines(flow: Flow) -> list[str]:
    """The statements that freeze the parameters of ``model``."""
    frozen = {tuple(name.split(".")) for name in flow.frozen if name in flow.state}
    if not frozen:
        return []
    named = [tuple(name.split(".")) for name in flow.state]
    trained = [p for p in named if p not in frozen and _is_parameter(flow, p)]
    return [f"    model{_reached(p)}.requires_grad_(False)" for p in _covers((), frozen, trained)]


def _is_parameter(flow: Flow, path: Path) -> bool:
    held = flow.tensors.get(path)
    return held.trained if held is not None else path[-1] not in _STATISTICS


def _covers(around: Path, frozen: Collection[Path], trained: Sequence[Path]) -> Iterator[Path]:
    """The modules that hold no trained parameter, and frozen ones that lie in no such module."""
    inside = sorted(p for p in frozen if p[: len(around)] == around)
    if inside == [around] or not any(p[: len(around)] == around for p in trained):
        yield around
        return
    for part in dict.fromkeys(p[len(around)] for p in inside):
        yield from _covers((*around, part), frozen, trained)


def _reached(path: Path) -> str:
    return "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in path)
