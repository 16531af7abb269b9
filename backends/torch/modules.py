"""From steps to a tree of modules: which module runs what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import networkx as nx

from redir.backends.torch.emit.flow import Body, Flow, Step
from redir.backends.torch.emit.literals import torch_dtype
from redir.backends.torch.emit.text import (
    Path,
    number_mark,
    path_mark,
    paths_in,
    value_mark,
    values_in,
)
from redir.backends.torch.interface import Signature
from redir.backends.torch.names import common


@dataclass(eq=False)
class Module:
    """A module: what it runs, and the modules, layers and tensors in it.

    ``steps`` is None for one that only holds what the module around it runs.
    """

    path: Path
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    steps: list[Step] | None = None
    children: dict[str, Module] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    defaults: dict[int, Path] = field(default_factory=dict)
    signature: Signature | None = None
    result: Callable[[list[str]], str] = ", ".join

    @property
    def parts(self) -> set[str]:
        """The names of the layers and modules in it."""
        return {*self.children, *self.layers}

    @property
    def numbered(self) -> bool:
        """Whether what it holds goes by numbers."""
        return any(p.isdigit() for p in self.parts)


def modules(flow: Flow) -> Module:
    """The tree of modules that runs the bodies of ``flow``."""
    placed = [_planted(flow, body) for body in flow.bodies]
    root = placed[0]
    for module in placed[1:]:
        _at(root, module.path[:-1]).children[module.path[-1]] = module
    _drop_unused(flow, placed)
    for path, text in flow.layers.items():
        _at(root, path[:-1]).layers[path[-1]] = text
    for path, held in flow.tensors.items():
        _at(root, path[:-1]).tensors[path[-1]] = _tensor_text(
            path[-1], held.array.shape, torch_dtype(held.array.dtype), trained=held.trained
        )
    return root


def _drop_unused(flow: Flow, placed: list[Module]) -> None:
    """Forget layers and tensors that no step needs after all."""
    used = {p for m in placed for p in _mentioned(m)}
    used |= {p for m in placed for p in m.defaults.values()}
    for held in (flow.layers, flow.tensors):
        for path in [p for p in held if p not in used]:
            del held[path]
    for name in list(flow.state):
        path = tuple(name.split("."))
        if not any(
            path[:k] in flow.layers or path[:k] in flow.tensors for k in range(1, len(path) + 1)
        ):
            del flow.state[name]


def _mentioned(module: Module) -> Iterator[Path]:
    for step in module.steps or ():
        yield from paths_in(step.text)
    for child in module.children.values():
        yield from _mentioned(child)


def _tensor_text(name: str, shape: tuple[int, ...], dtype: str, *, trained: bool) -> str:
    """The statement that makes a tensor of a module."""
    sizes = ", ".join(number_mark("size", n) for n in shape) if shape else "()"
    kind = "" if dtype == "torch.float32" else f", dtype={dtype}"
    empty = f"torch.empty({sizes}{kind})"
    if trained:
        return f"self.{name} = nn.Parameter({empty})"
    return f'self.register_buffer("{name}", {empty})'


def _at(module: Module, path: Path) -> Module:
    """The module at ``path``, which lies in ``module``, made if it is not there yet."""
    for depth in range(len(module.path), len(path)):
        module = module.children.setdefault(path[depth], Module(path[: depth + 1]))
    return module


def _planted(flow: Flow, body: Body) -> Module:
    steps = _needed(body, [_outside(flow, s) for s in body.steps])
    module = _Arranger(flow).module(body.path, steps, body.outputs)
    module.inputs, module.defaults = body.inputs, body.defaults
    module.names, module.signature = (() if body.path else body.names), body.signature
    return module


def _outside(flow: Flow, step: Step) -> Step:
    """The step in a module from which it reaches all that it mentions, outside of layers."""
    above = [p[:-1] for p in paths_in(step.text)]
    return replace(step, scope=common([flow.clear(step.scope), *above]))


def _needed(body: Body, steps: list[Step]) -> list[Step]:
    """The steps that the outputs need."""
    wanted, kept = set(body.outputs), []
    for step in reversed(steps):
        if not step.targets or wanted & set(values_in(step.targets)):
            kept.append(step)
            wanted.update(values_in(step.text))
    return kept[::-1]


@dataclass
class _Arranger:
    flow: Flow

    def module(self, path: Path, steps: list[Step], outputs: list[int]) -> Module:
        """The module at ``path`` that runs ``steps``; modules in it run what they can alone."""
        opened: set[Path] = set()
        while True:
            groups = self._groups(path, steps, opened)
            tangled = _tangled(groups) - {None}
            if not tangled:
                made = self._children(groups, outputs)
                tangled = {p for p, m in made.items() if _is_list(m)}
                if not tangled:
                    break
            opened |= {p for p in tangled if p is not None}
        return self._joined(path, groups, made, outputs, opened)

    def _groups(
        self, path: Path, steps: list[Step], opened: set[Path]
    ) -> list[tuple[Path | None, list[Step]]]:
        """The steps of each module in it, and each step of its own alone."""
        found: dict[Path, list[Step]] = {}
        groups: list[tuple[Path | None, list[Step]]] = []
        for step in steps:
            scope = step.scope if step.scope[: len(path)] == path else path
            ends = range(len(path) + 1, len(scope) + 1)
            inner = next((scope[:k] for k in ends if scope[:k] not in opened), None)
            if inner is None:
                groups.append((None, [step]))
            elif inner in found:
                found[inner].append(step)
            else:
                groups.append((inner, found.setdefault(inner, [step])))
        return groups

    def _children(
        self, groups: list[tuple[Path | None, list[Step]]], outputs: list[int]
    ) -> dict[Path, Module]:
        made = {}
        for path, steps in groups:
            if path is not None:
                others = [s for p, g in groups if p != path for s in g]
                read = {*outputs, *(v for s in others for v in values_in(s.text))}
                given = [v for s in steps for v in values_in(s.targets) if v in read]
                made[path] = self.module(path, steps, given)
        return made

    def _joined(
        self,
        path: Path,
        groups: list[tuple[Path | None, list[Step]]],
        made: dict[Path, Module],
        outputs: list[int],
        opened: set[Path],
    ) -> Module:
        module = Module(path, outputs=outputs, steps=[])
        assert module.steps is not None
        for place in _order(groups):
            inner, steps = groups[place]
            if inner is None:
                module.steps += steps
                continue
            child = made[inner]
            call = f"{path_mark(inner)}({', '.join(map(value_mark, child.inputs))})"
            targets = ", ".join(map(value_mark, child.outputs))
            module.steps.append(Step(path, targets, call))
            _at(module, inner[:-1]).children[inner[-1]] = child
        for empty in sorted(opened):
            _at(module, empty)
        defined = {v for s in module.steps for v in values_in(s.targets)}
        read = [v for s in module.steps for v in values_in(s.text)]
        module.inputs = [v for v in dict.fromkeys([*read, *outputs]) if v not in defined]
        return module


def _is_list(module: Module) -> bool:
    """Whether a module holds parts by number and does not run them one after the other."""
    called = {
        p[len(module.path)]
        for s in module.steps or ()
        for p in paths_in(s.text)
        if len(p) > len(module.path)
    }
    return any(c.isdigit() for c in called) and not is_chain(module)


def is_chain(module: Module) -> bool:
    """Whether a module runs its numbered parts one after the other, and nothing else."""
    steps, before, last = module.steps, module.inputs, -1
    if not steps or len(before) != 1 or len(module.outputs) != 1:
        return False
    for step in steps:
        found = paths_in(step.text)
        name = found[0][-1] if len(found) == 1 and len(found[0]) == len(module.path) + 1 else ""
        call = f"{path_mark((*module.path, name))}({value_mark(before[0])})"
        if not name.isdigit() or step.text != call or int(name) <= last:
            return False
        last, before = int(name), values_in(step.targets)
        if len(before) != 1:
            return False
    read = Counter(v for s in steps for v in values_in(s.text))
    return before == module.outputs and all(n == 1 for n in read.values())


def _quotient(groups: Sequence[tuple[Path | None, list[Step]]]) -> nx.DiGraph[int]:
    maker = {
        v: k for k, (_, steps) in enumerate(groups) for s in steps for v in values_in(s.targets)
    }
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(groups)))
    for k, (_, steps) in enumerate(groups):
        for value in (v for s in steps for v in values_in(s.text)):
            if value in maker and maker[value] != k:
                graph.add_edge(maker[value], k)
    return graph


def _tangled(groups: Sequence[tuple[Path | None, list[Step]]]) -> set[Path | None]:
    """The modules that run before and after something that runs outside of them."""
    cycles = (c for c in nx.strongly_connected_components(_quotient(groups)) if len(c) > 1)
    return {groups[k][0] for c in cycles for k in c}


def _order(groups: Sequence[tuple[Path | None, list[Step]]]) -> list[int]:
    return list(nx.lexicographical_topological_sort(_quotient(groups)))
