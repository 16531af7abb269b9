"""The nested outputs of a PyTorch model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from redir.backends.torch.interface import shell, unreturned
from redir.backends.torch.names import identifier, is_field
from redir.ir import Graph

_RESULTS = re.compile(r"torch\.(Size|return_types\.[a-z_0-9]+)", re.ASCII)


def structure(graph: Graph) -> Any:
    """How the outputs were nested, if the graph came from PyTorch and they were."""
    held = shell(graph).get("outputs")
    names = {name: name for name in graph.outputs if name not in unreturned(graph)}
    try:
        shown(held, names), classes(held)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None  # the text of a graph may say anything
    return held if isinstance(held, dict) else None


def shown(held: Any, names: Mapping[str, str]) -> str:
    """The expression that nests outputs as ``held`` says; ``names`` are theirs in a forward."""
    if isinstance(held, str):
        return names[held]
    if "constant" in held:
        return repr(held["constant"])
    ((kind, parts), *_) = held.items()
    if "fields" in held:
        return _instance(held, names)
    if kind in {"dict", "OrderedDict"}:
        items = f"{{{', '.join(f'{_quoted(k)}: {shown(v, names)}' for k, v in parts)}}}"
        return items if kind == "dict" else f"OrderedDict({items})"
    items = ", ".join(shown(v, names) for v in parts)
    if kind == "list":
        return f"[{items}]"
    return f"({items},)" if len(parts) == 1 else f"({items})"


def _instance(held: Any, names: Mapping[str, str]) -> str:
    """The expression that makes an object."""
    ((_, full), (_, parts)) = held.items()
    if _is_named(held):
        fields = ", ".join(f"{k}={shown(v, names)}" for k, v in parts)
        return f"{class_name(full)}({fields})"
    items = shown({"tuple": [v for _, v in parts]}, names)
    return f"{full}({items})" if _RESULTS.fullmatch(full) else items


def _is_named(held: Any) -> bool:
    """Whether the parts of an object are fields, and not places as in a tuple."""
    return all(is_field(name) for name, _ in held["fields"])


def _quoted(key: object) -> str:
    return f'"{key}"' if is_field(key) else repr(key)


def class_name(full: str) -> str:
    """The name of a class without its module."""
    return identifier(full.rpartition(".")[2])


def classes(held: Any) -> dict[str, list[str]]:
    """By name, the text of the classes that outputs are objects of, those inside others first."""
    found: dict[str, dict[str, str]] = {}
    heads: dict[str, list[str]] = {}
    for kind, name, fields in _objects(held):
        found.setdefault(name, {}).update({f: f"    {f}: object = None" for f in fields})
        plain = ["@dataclass", f"class {name}:"]
        heads[name] = [f"class {name}(NamedTuple):"] if kind == "namedtuple" else plain
    says = ['    """What the network gives."""', ""]
    return {name: [*heads[name], *says, *lines.values()] for name, lines in found.items()}


def _objects(held: Any) -> Iterator[tuple[str, str, list[str]]]:
    """The kind, the name and the fields of every object in a structure."""
    if not isinstance(held, dict) or "constant" in held:
        return
    ((kind, parts), *_) = held.items()
    pairs: Any = enumerate(parts) if kind in {"list", "tuple"} else held.get("fields", parts)
    for _, part in pairs:
        yield from _objects(part)
    if "fields" in held and _is_named(held):
        yield kind, class_name(parts), [k for k, _ in held["fields"]]
