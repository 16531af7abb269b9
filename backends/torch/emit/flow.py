"""What is emitted of a graph: steps in text with marks, and the layers and tensors they use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redir.backends.torch.emit.literals import Ints
from redir.backends.torch.emit.text import Path
from redir.backends.torch.interface import Signature
from redir.backends.torch.names import RESERVED
from redir.ir import Node, Value
from redir.ir.tensor import Array

Result: TypeAlias = str | Ints | Value | Sequence[str | Ints | Value]


@dataclass(frozen=True)
class Step:
    """One statement of a forward: ``targets = text``, run in the module ``scope``.

    One without targets is run for what it does.
    """

    scope: Path
    targets: str
    text: str


@dataclass(frozen=True)
class Held:
    """A tensor that a module holds itself."""

    array: Array
    trained: bool


@dataclass(eq=False)
class Body:
    """A forward: of the whole graph, or of a body of control flow, a module at ``path``."""

    path: Path
    names: tuple[str, ...]
    inputs: list[int]
    defaults: dict[int, Path] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    signature: Signature | None = None


@dataclass(eq=False)
class Flow:
    """All that is emitted: the bodies, and by path the layers and tensors they use.

    ``rule`` says what a node becomes in the scene that it is in; ``closed`` are paths that are
    known to become layers.

    ``state`` are the arrays by the name that torch's ``state_dict`` has for them, ``origin`` the
    names that they have in the graph, ``frozen`` those that are not to be trained; ``classes`` the
    names of classes by path where the graph knows them.
    """

    rule: Callable[[Any, Node], Result]
    bodies: list[Body] = field(default_factory=list)
    layers: dict[Path, str] = field(default_factory=dict)
    tensors: dict[Path, Held] = field(default_factory=dict)
    state: dict[str, Array] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    classes: dict[Path, str] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    taken: set[Path] = field(default_factory=set)
    closed: frozenset[Path] = frozenset()
    count: int = 0

    def value(self) -> int:
        """A new value."""
        self.count += 1
        return self.count

    def clear(self, scope: Path) -> Path:
        """The scope, or that around the layer in which it lies."""
        for length in range(1, len(scope) + 1):
            if scope[:length] in self.layers or scope[:length] in self.closed:
                return scope[: length - 1]
        return scope

    def free(self, path: Path) -> Path:
        """``path``, or one like it that nothing has."""
        *above, wish = path
        name, tries = wish, 1
        while (*above, name) in self.taken or name in RESERVED:
            tries += 1
            name = f"{wish}_{tries}" if wish[-1].isdigit() else f"{wish}{tries}"
        self.taken.add((*above, name))
        return (*above, name)
