"""What redir and other packages add under entry points, found by its name."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from redir.errors import BadInput, BadPipeline


@cache  # to look through all that is installed takes 10 ms
def _claims(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """What is installed in a group under each name, the same thing once."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, _owner(p), p.value)):
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: tuple(points.values()) for name, points in found.items()}


def _owner(point: EntryPoint) -> str:
    """The package that an entry point is of, as package indexes spell it."""
    return re.sub(r"[-_.]+", "-", point.dist.name).lower() if point.dist else "?"


def plugins(group: str) -> Mapping[str, EntryPoint]:
    """What is installed in a group of entry points, such as ``redir.passes``, by name.

    ``plugin`` refuses a name that several packages claim; here it is that of the first.
    """
    return {name: points[0] for name, points in _claims(group).items()}


def forget() -> None:
    """Look anew at what is installed, where that has changed while redir runs."""
    _claims.cache_clear()
    loaded.cache_clear()


def plugin(group: str, name: str, what: str) -> Any:
    """What is installed under ``name`` in a group of entry points; ``what`` says what it is.

    Raises:
        BadPipeline: there is no such thing, or several packages claim the name, or it cannot be
            loaded.
    """
    points = plugins(group)
    if name not in points:
        raise BadPipeline(f"no {what} is called {name!r}; there are {', '.join(points)}")
    claims = _claims(group).get(name, ())
    if len(claims) > 1:
        named = " and ".join(f"{_owner(point)} ({point.value})" for point in claims)
        raise BadPipeline(
            f"{what} {name!r} is claimed by {named}: one of them has to be uninstalled"
        )
    return loaded(points[name], what)


@cache
def loaded(point: EntryPoint, what: str) -> Any:
    """What an entry point names.

    Raises:
        BadPipeline: it cannot be imported.
    """
    try:
        return point.load()
    except Exception as error:  # whatever another package raises when it is imported
        reason = f"{type(error).__name__}: {error}"
        raise BadPipeline(
            f"{what} {point.name!r} cannot be loaded from {point.value}: {reason}"
        ) from error


def is_named(name: str) -> bool:
    """Whether something is named as ``package.module:function``."""
    module, colon, function = name.partition(":")
    parts = [*module.split("."), *function.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)


def find_here(name: str) -> None:
    """Let a module that is named be in the current folder, as for ``python -m``."""
    if is_named(name) and "" not in sys.path:
        sys.path.insert(0, "")


def imported(name: str) -> Any:
    """What ``package.module:function`` names.

    Raises:
        BadInput: the module cannot be imported, or has no such thing.
    """
    module, _, function = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise BadInput(f"{name}: {module} cannot be imported: {error}") from error
    except AttributeError:
        raise BadInput(f"{name}: {module} has no {function}") from None
    return found
