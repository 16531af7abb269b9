"""What a module takes and gives beyond tensors: lists, dicts and classes, and the names in them."""

from __future__ import annotations

import inspect
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]


def children(spec: Any) -> list[tuple[str | int, Any]]:
    """The parts of a tree spec, by key or place."""
    parts = spec.children()
    return list(zip(_names(spec, len(parts)) or range(len(parts)), parts, strict=True))


def _names(spec: Any, count: int) -> Sequence[str | int] | None:
    """The keys or fields of a tree spec, if it says them."""
    if _is_namedtuple(spec):  # the class itself is the context
        fields: tuple[str, ...] = spec.context._fields
        return fields
    held = spec.context[1] if spec.type is defaultdict else spec.context
    if issubclass(spec.type, Mapping):
        keys: Sequence[str | int] = held
        return keys if _plain_names(held) else None
    if isinstance(held, list | tuple) and held and isinstance(held[0], list | tuple):
        held = held[0]  # a dataclass: the names that are set, and those that are None
    named = _plain_names(held) and len(held) == count and count > 0
    return [str(k) for k in held] if named else None


def way(spec: Any) -> str:
    """How the parts of a tree spec are reached in an object of it.

    It is ``item`` by key or place, ``field`` by name, or ``leaf`` where only torch knows.
    """
    if _is_namedtuple(spec):
        return "field"
    if spec.type in {list, tuple} or issubclass(spec.type, Mapping):
        return "item"
    return "leaf" if _names(spec, len(spec.children())) is None else "field"


def _is_namedtuple(spec: Any) -> bool:
    return spec.type is namedtuple  # noqa: PYI024 - as torch marks them


def _plain_names(held: Any) -> bool:
    return isinstance(held, list | tuple) and all(isinstance(k, str | int) for k in held)


def paths(spec: Any) -> Iterator[Path]:
    """Where each leaf of a tree spec stands."""
    if spec.is_leaf():
        yield ()
        return
    for key, part in children(spec):
        for rest in paths(part):
            yield (key, *rest)


def output_name(path: Path) -> str:
    """The name of an output: that of its key or field, or else its place."""
    named = path if path and isinstance(path[0], str) else ("output", *path)
    return "_".join(map(str, named))


def layout(spec: Any, leaves: Iterator[Any]) -> Any:
    """A tree spec in plain words: ``leaves`` in its places, classes by their names."""
    if spec.is_leaf():
        return next(leaves)
    parts = [(key, layout(part, leaves)) for key, part in children(spec)]
    if spec.type in {list, tuple}:
        return {spec.type.__name__: [part for _, part in parts]}
    pairs = [list(pair) for pair in parts]
    if spec.type in {dict, defaultdict, OrderedDict}:
        return {"OrderedDict" if spec.type is OrderedDict else "dict": pairs}
    is_tuple = _is_namedtuple(spec)
    made = spec.context if is_tuple else spec.type
    name = f"{made.__module__}.{made.__qualname__}"
    return {"namedtuple" if is_tuple else "object": name, "fields": pairs}


def plain(held: Any) -> Any:
    """A constant that JSON can hold, or else its name."""
    return held if isinstance(held, bool | int | float | str | None) else str(held)


# The names of open dimensions


def dim_names(
    module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], shapes: Any
) -> dict[int, dict[int, str]]:
    """What the caller named the axes of each tensor, by the tensor's id."""
    if not isinstance(shapes, Mapping | list | tuple):
        return {}
    found: dict[int, dict[int, str]] = {}
    for value, spec in _matched(_bound(module, args, kwargs, shapes), shapes):
        axes = spec.items() if isinstance(spec, Mapping) else enumerate(spec)
        named = {a: d if isinstance(d, str) else getattr(d, "__name__", None) for a, d in axes}
        found[id(value)] = {a: name for a, name in named.items() if isinstance(name, str)}
    return found


def _bound(module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], shapes: Any) -> Any:
    """The arguments as the ``shapes`` are given: by name, or in order."""
    signature = inspect.signature(module.forward)
    bound = dict(signature.bind(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound |= bound.pop(name, {})
    return bound if isinstance(shapes, Mapping) else list(bound.values())


def _matched(value: Any, spec: Any) -> Iterator[tuple[Any, Any]]:
    """Each tensor with what is said of its axes."""
    if hasattr(value, "shape") and isinstance(spec, Mapping | list | tuple):
        yield value, spec
    elif isinstance(value, Mapping) and isinstance(spec, Mapping):
        for key, part in value.items():
            yield from _matched(part, spec.get(key))
    elif isinstance(value, list | tuple) and isinstance(spec, list | tuple):
        for part, said in zip(value, spec, strict=False):
            yield from _matched(part, said)
