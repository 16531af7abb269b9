"""What redir and other packages add under entry points, found by its name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from redir.errors import BadPipeline


@cache  # to look through all that is installed takes 10 ms
def plugins(group: str) -> Mapping[str, EntryPoint]:
    """What is installed in a group of entry points, such as ``redir.passes``, by name."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda p: p.name)}


def plugin(group: str, name: str, what: str) -> Any:
    """What is installed under ``name`` in a group of entry points; ``what`` says what it is.

    Raises:
        BadPipeline: there is no such thing, or it cannot be loaded.
    """
    points = plugins(group)
    if name not in points:
        raise BadPipeline(f"no {what} is called {name!r}; there are {', '.join(points)}")
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
