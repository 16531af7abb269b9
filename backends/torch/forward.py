"""The text of a forward: values get names, and give them back after their last use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from redir.backends.torch.emit.flow import Step
from redir.backends.torch.emit.text import (
    Path,
    path_mark,
    split_items,
    value_mark,
    values_in,
    with_numbers,
    with_paths,
    with_values,
    wrapped,
)
from redir.backends.torch.modules import Module
from redir.backends.torch.names import identifier
from redir.backends.torch.nesting import nested

_LETTERS = "x y z u v w a b c d e f g h k m n p q r s t".split()


class Forward:
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
