"""The structure of inputs and outputs in a ``.pt2`` file: read as JSON before torch reads it.

torch imports the modules that such a text names, for the factory of a ``defaultdict`` and for the
members of an ``Enum``. Here are no modules: types by names that torch knows, and plain data.
"""

from __future__ import annotations

import json
from typing import Any

from redir.errors import BadInput

_PARTS = frozenset({"type", "context", "children_spec"})
_FACTORY = frozenset({"default_factory_module", "default_factory_name", "dict_context"})
_FACTORIES = frozenset("bool dict float int list set str tuple".split())
_PROTOCOL = 1


def checked_spec(text: Any) -> str:
    """The text of a structure, written anew.

    Raises:
        BadInput: it is none, or holds what is not plain data.
    """
    held = json.loads(text) if isinstance(text, str) else None
    if not isinstance(held, list) or len(held) != 2 or held[0] is not _PROTOCOL:  # noqa: PLR2004
        raise _refusal("is none")
    return json.dumps([_PROTOCOL, _checked(held[1])])


def _checked(held: Any) -> dict[str, Any]:
    if not isinstance(held, dict) or held.keys() != _PARTS or not _is_list(held["children_spec"]):
        raise _refusal("is none")
    kind, context = held["type"], held["context"]
    if kind is not None and not isinstance(kind, str):
        raise _refusal("has a type that is no name")
    children = [_checked(part) for part in held["children_spec"]]
    return {"type": kind, "context": _context(kind, context), "children_spec": children}


def _context(kind: str | None, held: Any) -> Any:
    """What a type says of its parts: the keys of a dict, the fields of a class."""
    if kind is None and held is None:
        return None
    if kind == "collections.namedtuple" and isinstance(held, str):
        return held  # a name that torch looks up among the types that it knows
    if kind == "collections.defaultdict":
        return _factory(held)
    if not isinstance(held, str):
        raise _refusal("holds what is no text")
    return json.dumps(_plain(json.loads(held)))


def _factory(held: Any) -> dict[str, Any]:
    if not isinstance(held, dict) or held.keys() != _FACTORY:
        raise _refusal("has a defaultdict that is none")
    if held["default_factory_module"] != "builtins":
        raise _refusal("refers to code")
    if held["default_factory_name"] not in _FACTORIES:
        raise _refusal("refers to code")
    return {**held, "dict_context": _plain(held["dict_context"])}


def _plain(held: Any) -> Any:
    """Words and numbers, and lists of them."""
    if isinstance(held, list):
        return [_plain(part) for part in held]
    if held is None or isinstance(held, str | int | float):
        return held
    raise _refusal("refers to code")


def _is_list(held: Any) -> bool:
    return isinstance(held, list)


def _refusal(why: str) -> BadInput:
    return BadInput(f"the structure of its inputs or outputs {why}")
