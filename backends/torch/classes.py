"""The text of classes: which modules are of one class, and what its constructor takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from redir.backends.torch.emit.flow import Flow
from redir.backends.torch.emit.text import (
    STRIDE,
    Path,
    number_mark,
    numbers_in,
    paths_in,
    plain,
    with_numbers,
    wrapped,
)
from redir.backends.torch.forward import Forward
from redir.backends.torch.modules import Module, is_chain
from redir.backends.torch.names import IMPORTED, is_class

_USUAL = "\ue004"  # stands for a number that need not be said
_ARGUMENTS = 6  # a class takes no more; its instances are of several classes then
_CHANNELS = frozenset("in_channels out_channels features in_features out_features channels".split())


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
        return numbers_in("".join(s.text for s in Forward(module, self.root is module).steps))

    def _forward(self, module: Module, numbers: Sequence[str]) -> list[str]:
        names = Forward(module, self.root is module, numbers)
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
