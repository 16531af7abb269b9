"""Where a node came from: what its file said beside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redir.ir.tensor import Array, Type


@dataclass(frozen=True)
class Source:
    """Where a node came from: the names and notes of its file.

    Of these a pass reads only whether a constant is ``frozen``, lest training go on where it should
    not, or not where it should; and an operator which of its results have no name.
    ``outputs`` are the names of the output values; ``overload`` tells local functions of one name
    apart; ``declared`` the types that the file states
    for them, None where it states none. ``channels`` says, for each axis of a constant that was
    narrowed, which channels of the file's are left. ``origin`` is the constant of the file that
    this one was computed from, if that was one alone, and ``axes`` the axis of that for each axis
    of this, -1 for none. ``shell`` is what a frontend keeps for its own backend, as in ``Graph``.
    """

    name: str = ""
    outputs: tuple[str, ...] = ()
    overload: str = ""
    doc: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    declared: tuple[Type | None, ...] = ()
    channels: tuple[tuple[int, tuple[int, ...]], ...] = ()
    origin: str = ""
    axes: tuple[int, ...] = ()
    shell: bytes = b""

    @property
    def frozen(self) -> bool:
        """Whether it is of a parameter that is not to be trained."""
        return any(key == "frozen" for key, _ in self.metadata)

    def of(self, index: int) -> Source:
        """The source of one result alone: that of a constant which takes its place."""
        one = slice(index, index + 1)
        return replace(self, name="", outputs=self.outputs[one], declared=self.declared[one])

    def moved_to(self, axes: tuple[int, ...]) -> Source:
        """The source of what was made of this constant alone; ``axes`` as above, of this one."""
        left = dict(self.channels)
        return Source(
            origin=self.origin or next(iter(self.outputs), ""),
            axes=tuple(self.axes[a] if self.axes and a >= 0 else a for a in axes),
            channels=tuple((i, left[a]) for i, a in enumerate(axes) if a in left),
        )

    def named_as(self, other: Source) -> Source:
        """The source of the same node where its results are those of another."""
        return replace(self, outputs=other.outputs, declared=other.declared)

    def giving(self, places: Sequence[int]) -> Source:
        """The source of the same node with only its results at ``places``."""
        outputs = tuple(self.outputs[i] for i in places if i < len(self.outputs))
        declared = tuple(self.declared[i] for i in places if i < len(self.declared))
        return replace(self, outputs=outputs, declared=declared)

    def keeping(self, axis: int, kept: Array) -> Source:
        """The source of the same constant with only the channels ``kept`` of ``axis``."""
        left = dict(self.channels)
        before = left.get(axis)
        left[axis] = tuple(int(k) if before is None else before[k] for k in kept)
        return replace(self, channels=tuple(sorted(left.items())))
