"""PyTorch's operators that are kept as they are, by their names in ``torch.ops``."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any

from redir.backends.torch.emit.literals import literal, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.errors import MissingExtra, Unsupported
from redir.ir.tensor import dtype_named
from redir.ops import torch_library

try:
    import torch
except ImportError:  # only these operators need it
    torch = None


def _carried(site: Site) -> Result:
    """The operator itself, its arguments by name."""
    space = site.node.op.domain.removeprefix("torch.")
    try:
        kinds = _kinds(site, space)
        given = _given(site, kinds)
    except Unsupported as error:
        raise site.refused(str(error)) from None
    arguments = ", ".join(f"{name}={text}" for name, text in given.items())
    return f"torch.ops.{space}.{site.node.op.name}({arguments})"


def _kinds(site: Site, space: str) -> Mapping[str, set[str]]:
    """The types of the operator's arguments; it is one that a model may name."""
    if torch is None:
        raise MissingExtra(f"writing {site.node}, an operator of PyTorch,", "torch")
    runner: Any = site.node.op.evaluate
    known = isinstance(runner, torch_library.Runner)  # the operator itself, not its name alone
    schema = (
        runner.target._schema  # noqa: SLF001 - there is no other way to it
        if known
        else torch_library.function(torch, space, site.node.op.name)
    )
    return {a.name: torch_library.kinds_of(a.type) for a in schema.arguments}


def _given(site: Site, kinds: Mapping[str, set[str]]) -> dict[str, str]:
    """The text of each argument."""
    given = {
        name: _shown(attr, kinds.get(name, set()))
        for name, attr in site.node.attrs.items()
        if name != "operands"
    }
    lists: dict[str, list[str]] = {}
    for place, name in enumerate(site.attr("operands", ())):
        operand = site.ref(place) if site.has(place) else "None"
        if name.endswith("[]"):
            lists.setdefault(name[:-2], []).append(operand)
        else:
            given[name] = operand
    given |= {name: f"[{', '.join(parts)}]" for name, parts in lists.items()}
    odd = next((name for name in given if name not in kinds or keyword.iskeyword(name)), None)
    if odd is not None:
        raise Unsupported(f"it has no argument {odd!r}")
    return given


def _shown(attr: Any, kinds: set[str]) -> str:
    """An attribute as Python reads it back."""
    if isinstance(attr, tuple):
        return f"[{', '.join(_shown(part, kinds) for part in attr)}]"
    if isinstance(attr, str) and attr.startswith("torch."):
        return torch_dtype(_dtype(attr.removeprefix("torch.")))
    if isinstance(attr, bool | int | float):
        return literal(attr)
    if isinstance(attr, str) and kinds & {"str", "Device"}:
        return repr(attr)
    raise Unsupported(f"it takes no argument like {attr!r}")


def _dtype(name: str) -> Any:
    try:
        return dtype_named(name)
    except TypeError:
        raise Unsupported(f"there is no element type {name!r}") from None


TABLE: dict[str, Emit] = {"aten.*": _carried}
"""By domain: those of a library of its own are in ``torch.NAME``."""
