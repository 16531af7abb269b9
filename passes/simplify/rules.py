"""What a rule is, and what it may ask of the graph around a node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from redir import ops
from redir.ir import Node, Op, Value
from redir.ops.contrib_schemas import is_added

Found = Value | str | None
"""What stands for a result, or what is in the way, or nothing where a rule has nothing to say."""


@dataclass(frozen=True)
class Around:
    """What a node cannot tell: the operator set of its graph, and how often each value is read."""

    opset: int
    uses: Counter[Value]

    def alone(self, value: Value) -> bool:
        """Whether it is read once; not where one cannot tell yet."""
        return self.uses[value] == 1

    def op(self, name: str) -> Op | None:
        """An operator as it is in the graph's operator set, not one that onnxruntime adds to it."""
        return None if is_added(name, self.opset) else ops.lookup(name, self.opset)


@dataclass(frozen=True)
class Rule:
    """Something that may stand for the one result of nodes of the operators ``of``."""

    name: str
    of: frozenset[str]
    rewrite: Callable[[Node, Around], Found]

    def __call__(self, node: Node, around: Around) -> Found:
        """What it makes of a node."""
        return self.rewrite(node, around) if node.arity == 1 else None


def rule(name: str, *of: str) -> Callable[[Callable[[Node, Around], Found]], Rule]:
    """Make a rule of a function."""
    return lambda rewrite: Rule(name, frozenset(of), rewrite)
