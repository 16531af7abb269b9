"""From steps to classes: which module runs what, and the text of each class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import networkx as nx

from redir.backends.torch.emit.emitter import Body, Flow, Step
from redir.backends.torch.emit.literals import torch_dtype
from redir.backends.torch.emit.text import (
    STRIDE,
    Path,
    number_mark,
    numbers_in,
    path_mark,
    paths_in,
    plain,
    split_items,
    value_mark,
    values_in,
    with_numbers,
    with_paths,
    with_values,
    wrapped,
)
from redir.backends.torch.interface import Signature
from redir.backends.torch.names import IMPORTED, common, identifier, is_class
from redir.backends.torch.nesting import nested

_LETTERS = "x y z u v w a b c d e f g h k m n p q r s t".split()
_USUAL = "\ue004"  # stands for a number that need not be said
_ARGUMENTS = 6  # a class takes no more; its instances are of several classes then
_CHANNELS = frozenset("in_channels out_channels features in_features out_features channels".split())


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


def _at(root: Module, path: Path) -> Module:
    """The module at ``path``, made if it is not there yet."""
    module = root
    for depth, name in enumerate(path):
        module = module.children.setdefault(name, Module(path[: depth + 1]))
    return module


# Which module runs what


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
            holder = module
            for depth in range(len(path), len(inner) - 1):
                holder = holder.children.setdefault(inner[depth], Module(inner[: depth + 1]))
            holder.children[inner[-1]] = child
        for empty in sorted(opened):
            holder = module
            for depth in range(len(path), len(empty)):
                holder = holder.children.setdefault(empty[depth], Module(empty[: depth + 1]))
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


# The text of classes


@dataclass
class Written:
    """A class: its name, what its constructor takes, and its statements."""

    name: str
    arguments: list[str]
    init: list[str]
    forward: list[str]
    paths: list[Path]


@dataclass(frozen=True)
class Draft:
    """A module with the statements that make its parts, and the numbers in its forward."""

    module: Module
    init: list[str]
    numbers: list[tuple[str, str]]

    @property
    def lines(self) -> list[str]:
        """The statements, and behind them a line per number."""
        return [*self.init, *(number_mark(role, number) for role, number in self.numbers)]


@dataclass(eq=False)
class Writer:
    """The classes of a tree of modules, those that others need first."""

    flow: Flow
    root: Module
    title: str
    classes: list[Written] = field(default_factory=list)
    made: dict[Path, str] = field(default_factory=dict)

    @cached_property
    def taken(self) -> set[str]:
        """Names that no class may have."""
        return {*IMPORTED, *self.flow.helpers}

    def write(self) -> list[Written]:
        """All classes, the last one that of the whole."""
        ranks: dict[int, list[Module]] = {}
        self._rank(self.root, ranks)
        for rank in sorted(ranks):
            self._classes(ranks[rank])
        return self.classes

    def _rank(self, module: Module, ranks: dict[int, list[Module]]) -> int:
        """How many levels of classes lie below a module."""
        below = [self._rank(c, ranks) for c in module.children.values()]
        rank = 1 + max(below, default=0)
        ranks.setdefault(rank, []).append(module)
        return rank

    def _classes(self, level: list[Module]) -> None:
        """Write the modules of one level: those of the same code are of one class."""
        alike: dict[tuple[str, ...], list[Draft]] = {}
        for module in level:
            if self._constructed(module):
                continue
            draft = Draft(module, self._init(module), self._numbers(module))
            blank = [with_numbers(line, _role) for line in draft.init]
            forward = self._forward(module, [_role(role, n) for role, n in draft.numbers])
            wish = "" if self._named else self.flow.classes.get(module.path, "")
            known = self.flow.classes.get(module.path, wish)
            alike.setdefault((known, *blank, "", *forward), []).append(draft)
        for group in alike.values():
            for part in self._shared(group):
                self._class(part)

    @cached_property
    def _named(self) -> bool:
        return bool(self.flow.classes)

    def _constructed(self, module: Module) -> bool:
        """Write a module that torch has a class for: a chain, or a list."""
        if module is self.root or module.tensors:
            return False
        numbered = module.numbered and all(p.isdigit() for p in module.parts)
        if not numbered or not (module.steps is None or is_chain(module)):
            return False
        parts = {int(name): self._part(module, name) for name in module.parts}
        items = [parts.get(k, "nn.Identity()") for k in range(max(parts) + 1)]
        kind = "nn.ModuleList" if module.steps is None else "nn.Sequential"
        listed = f"[{', '.join(items)}]" if module.steps is None else ", ".join(items)
        self.made[module.path] = f"{kind}({listed})"
        return True

    def _part(self, module: Module, name: str) -> str:
        return module.layers.get(name) or self.made[(*module.path, name)]

    def _init(self, module: Module) -> list[str]:
        """The statements that make the parts of a module."""
        made = {name: self._part(module, name) for name in self._in_order(module)}
        parts = (
            f'self.add_module("{name}", {part})' if name.isdigit() else f"self.{name} = {part}"
            for name, part in made.items()
        )
        return [*module.tensors.values(), *parts]

    def _in_order(self, module: Module) -> list[str]:
        """The parts of a module as it first uses them."""
        depth = len(module.path)
        used = [p[depth] for s in module.steps or () for p in paths_in(s.text) if len(p) > depth]
        every = [*dict.fromkeys([*used, *module.children, *module.layers])]
        return [n for n in every if n in module.parts]

    def _numbers(self, module: Module) -> list[tuple[str, str]]:
        """The role and the text of each number in a forward that instances may differ in."""
        return numbers_in("".join(s.text for s in _Names(module, self.root is module).steps))

    def _forward(self, module: Module, numbers: Sequence[str]) -> list[str]:
        names = _Names(module, self.root is module, numbers)
        return [] if module.steps is None else list(names.lines())

    def _shared(self, group: list[Draft]) -> list[list[Draft]]:
        """The group, or its parts of the same numbers where these would be too many arguments."""
        if len(_differing(group)[0]) <= _ARGUMENTS:
            return [group]
        parts: dict[tuple[str, ...], list[Draft]] = {}
        for draft in group:
            parts.setdefault(tuple(map(plain, draft.lines)), []).append(draft)
        return list(parts.values())

    def _class(self, group: list[Draft]) -> None:
        first = group[0]
        arguments, lines = _differing(group)
        init, numbers = lines[: len(first.init)], lines[len(first.init) :]
        held = {n: f"self.{_free(n, first.module)}" for n in numbers if n in arguments}
        init = [f"{kept} = {name}" for name, kept in held.items()] + init
        forward = self._forward(first.module, [held.get(n, n) for n in numbers])
        name = self._name([d.module for d in group])
        paths = [d.module.path for d in group]
        self.classes.append(Written(name, list(arguments), init, forward, paths))
        for place, draft in enumerate(group):
            given = [
                number_mark(role.rstrip("0123456789"), column[place])
                for role, column in arguments.items()
            ]
            texts = [
                text if k < 2 else f"{role}={text}"  # noqa: PLR2004 - the first two go unnamed
                for k, (role, text) in enumerate(zip(arguments, given, strict=True))
            ]
            self.made[draft.module.path] = f"{name}({', '.join(texts)})"

    def _name(self, group: list[Module]) -> str:
        wishes = dict.fromkeys(self._wish(m) for m in group)
        wish = next(iter(wishes)) if len(wishes) == 1 else "Block"
        wish = wish if is_class(wish) else f"{wish}Block"
        name, count = wish, 1
        while name in self.taken:
            count += 1
            name = f"{wish}{count}"
        self.taken.add(name)
        return name

    def _wish(self, module: Module) -> str:
        """What the class of a module would be called."""
        known = self.flow.classes.get(module.path)
        if known and is_class(known) and known not in {"Sequential", "ModuleList"}:
            return known
        if not module.path:
            return self.title
        words = [p for p in module.path if not p.isdigit()][-1:]
        text = "".join(w[:1].upper() + w[1:] for w in re.split(r"_+", "_".join(words)) if w)
        return f"{text}Block" if module.path[-1].isdigit() else text


def _role(role: str, _: str) -> str:
    """A number by its role alone, as it stands in what the modules of one class share."""
    return f"<{role}>"


def _free(name: str, module: Module) -> str:
    """The name of an attribute for an argument, which no part of the module has."""
    while name in module.parts | module.tensors.keys():
        name += "_"
    return name


def _differing(group: list[Draft]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The numbers in which modules of one code differ, by argument, and the lines."""
    columns = list(zip(*(numbers_in("\n".join(d.lines)) for d in group), strict=True))
    arguments: dict[str, tuple[str, ...]] = {}
    texts: list[str] = []
    for column in columns:
        role, values = column[0][0], tuple(number for _, number in column)
        kind = role.removesuffix("_of_layer")
        texts.append(values[0] if len(set(values)) == 1 else _argument(arguments, kind, values))
        if role == STRIDE and texts[-1] == "1":
            texts[-1] = _USUAL
    left = iter(texts)
    lines = [with_numbers(line, lambda *_: next(left)) for line in group[0].lines]
    return arguments, [line.replace(f", stride={_USUAL}", "") for line in lines]


def _argument(arguments: dict[str, tuple[str, ...]], role: str, values: tuple[str, ...]) -> str:
    """The argument that has these values: an old one of the same sort, or a new one."""
    for name, held in arguments.items():
        kind = name.rstrip("0123456789")
        if held == values and (kind == role or {kind, role} <= _CHANNELS):
            return name
    name, count = role, 1
    while name in arguments:
        count += 1
        name = f"{role}{count}"
    arguments[name] = values
    return name


# Names in a forward


class _Names:
    """A forward in text: values get names, and give them back after their last use."""

    def __init__(self, module: Module, is_root: bool, numbers: Iterable[str] = ()) -> None:  # noqa: FBT001
        self.module, self.numbers = module, iter(numbers)
        self.steps = nested(module.steps or [], module.outputs, len(module.path))
        self.last: dict[int, int] = {}
        for place, step in enumerate(self.steps):
            self.last.update(dict.fromkeys(values_in(step.text), place))
        self.last.update(dict.fromkeys(module.outputs, len(self.steps)))
        self.names: dict[int, str] = {}
        self.usual = _usual(self.steps)
        self.used: set[str] = set()
        self.given: set[str] = set()
        self._name_inputs(is_root)

    def _name_inputs(self, is_root: bool) -> None:  # noqa: FBT001
        named = dict(zip(self.module.inputs, self.module.names, strict=False))
        for value in self.module.inputs:
            name = self._wish(named[value]) if value in named else self._letter()
            name = name if name not in self.used else self._letter()
            self.names[value] = name
            self.used.add(name)
            self.given |= {name} if is_root or value in named else set()

    def _wish(self, name: str) -> str:
        """The name of an argument: as callers have it, where the model says how it is called."""
        return identifier(name) if self.module.signature is None else name

    def _letter(self) -> str:
        free = (n for n in _LETTERS if n not in self.used)
        return next(free, None) or next(
            n for n in (f"x{k}" for k in range(2, 10**6)) if n not in self.used
        )

    def lines(self) -> Iterator[str]:
        """The lines of the forward."""
        taken = self.module.signature
        parts = ", ".join(["self", *self._parameters()]) if taken is None else taken.text
        yield from wrapped(f"def forward({parts}):", 4)
        for value, path in self.module.defaults.items():
            name = self.names[value]
            yield f"        if {name} is None:"
            yield from wrapped(f"{name} = {self._reached(path_mark(path))}", 12)
        lines = [self._statement(k, s) for k, s in enumerate(self.steps)]
        results = [self.names[v] for v in self.module.outputs]
        shown = self.module.result(results)
        if lines and lines[-1][0] == shown:
            lines[-1] = ("return", lines[-1][1])
        else:
            lines.append(("return", shown))
        for left, text in lines:
            start = {"return": "return ", "": ""}.get(left, f"{left} = ")
            yield from wrapped(start + text, 8)

    def _parameters(self) -> list[str]:
        needed = [self.names[v] for v in self.module.inputs if v not in self.module.defaults]
        more = [f"{self.names[v]}=None" for v in self.module.inputs if v in self.module.defaults]
        return [*needed, *more]

    def _statement(self, place: int, step: Step) -> tuple[str, str]:
        numbered = with_numbers(step.text, lambda *_: next(self.numbers))
        text = self._reached(with_values(numbered, lambda v: self.names[v]))
        dying = [v for v in values_in(step.text) if self.last[v] == place]
        spare = [self.names[v] for v in dying if self.names[v] not in self.given]
        self.used -= set(spare)
        for value in values_in(step.targets):
            kept = self.last.get(value, -1) > place
            name = "_"
            if kept:
                name = self._name(value, spare)
            self.names[value] = name
            self.used |= {name} if kept else set()
        targets = with_values(step.targets, lambda v: self.names[v])
        return targets, text

    def _name(self, value: int, spare: Sequence[str]) -> str:
        """The usual name of a value, or one that is free again, or the next letter."""
        usual = self.usual.get(value, "")
        if usual and usual not in self.used:
            return usual
        plain = [s for s in spare if s not in self.used and s not in self.usual.values()]
        return plain[0] if plain else self._letter()

    def _reached(self, text: str) -> str:
        depth = len(self.module.path)

        def reach(path: Path) -> str:
            parts = (f"[{p}]" if p.isdigit() else f".{p}" for p in path[depth:])
            return "self" + "".join(parts)

        return with_paths(text, reach)


def _usual(steps: Sequence[Step]) -> dict[int, str]:
    """The values that everybody calls by one name: queries, keys and values of attention."""
    calls = (rest for s in steps for rest in s.text.split("scaled_dot_product_attention(")[1:])
    operands = (pair for rest in calls for pair in zip("qkv", split_items(rest), strict=False))
    return {
        value: name
        for name, item in operands
        for value in values_in(item)
        if f"{item})".startswith(f"{value_mark(value)})")
    }


def class_lines(written: Written) -> Iterator[str]:
    """The text of a class."""
    yield f"class {written.name}(nn.Module):"
    yield f'    """{_places(written)}"""'
    yield ""
    if written.init:
        yield from wrapped(f"def __init__({', '.join(['self', *written.arguments])}):", 4)
        yield "        super().__init__()"
        for line in written.init:
            yield from wrapped(line, 8)
    if any(line.startswith("self.add_module(") for line in written.init):
        yield from ["", "    def __getitem__(self, place):"]
        yield "        return self.get_submodule(str(place))"
    if written.init and written.forward:
        yield ""
    yield from written.forward
    if not (written.init or written.forward):
        yield "    pass"


def _places(written: Written) -> str:
    """Where in the network a class stands."""
    if written.paths == [()]:
        return "The whole network."
    names = [".".join(p) for p in written.paths]
    many = f", {names[1]} and {len(names) - 2} more" if len(names) > 2 else f" and {names[-1]}"  # noqa: PLR2004
    return f"The part at {names[0]}{many if len(names) > 1 else ''}."


__all__ = ["Module", "Writer", "Written", "class_lines", "modules"]
