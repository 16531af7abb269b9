"""Where in the module a node of the program stands, by what torch notes of its calls."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from redir.frontends.torch import mutation
from redir.frontends.torch.stated import is_value
from redir.ir import Source


class Scopes:
    """The modules around the nodes of a program."""

    def __init__(self, program: Any) -> None:
        """Of ``program``, as torch exported it."""
        self.program = program

    def source(self, node: Any) -> Source:
        """What the main operator of a node keeps: its name, and the modules around it."""
        stack = _stack(node)
        if not stack:
            return Source(node.name, (node.name,))
        key, path, _ = stack[-1]
        name = path if key in self._leaves and path else "/".join(filter(None, (path, node.name)))
        again = key.rpartition("@")[2] if "@" in key else ""
        classes = "/".join(kind for _, _, kind in stack)
        notes = (("module", path), ("classes", classes))
        return Source(f"{name}@{again}" if again else name, (node.name,), metadata=notes)

    @cached_property
    def _leaves(self) -> set[str]:
        """The calls of modules that hold no other and that are one operator."""
        stacks = [s for n in self._all_nodes() if (s := _stack(n))]
        holding = {key for stack in stacks for key, _, _ in stack[:-1]}
        count = Counter(stack[-1][0] for stack in stacks)
        return {key for key, times in count.items() if times == 1 and key not in holding}

    def _all_nodes(self) -> Iterator[Any]:
        """The nodes that operators come from."""
        for owner in self.program.graph_module.modules():
            for node in owner.graph.nodes if hasattr(owner, "graph") else ():
                computes = node.op == "call_function" and node.target is not operator.getitem
                if computes and is_value(node) and (node.users or mutation.is_write(node)):
                    yield node


def where(node: Any) -> str:
    """Where a node stands, for messages."""
    path = _path(node)
    return f"{node.target} at {path}" if path else f"{node.target} {node.name!r}"


def _stack(node: Any) -> list[tuple[str, str, str]]:
    """The modules around a node, outermost first: the key of the call, the path, the class."""
    held = node.meta.get("nn_module_stack") or {}
    return [
        (str(key), path.partition("@")[0], _class_name(kind))
        for key, (path, kind) in held.items()
        if not str(key).startswith("_empty")
    ]


def _class_name(kind: Any) -> str:
    return (kind if isinstance(kind, str) else kind.__qualname__).rpartition(".")[2]


def _path(node: Any) -> str:
    stack = _stack(node)
    return stack[-1][1] if stack else ""
