"""What a report reads: the JSON of ``redir compress`` and ``redir sweep``, checked key by key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from redir.errors import BadInput

Kind = Literal["compress", "sweep"]
_MOST = 2**63  # beyond which no count is one
_LARGEST = 1e300  # beyond which sums are no numbers


@dataclass(frozen=True)
class Maybe:
    """A value that may be null, or left out by an older redir."""

    of: Shape


@dataclass(frozen=True)
class Each:
    """A list."""

    of: Shape


@dataclass(frozen=True)
class Named:
    """An object with any keys."""

    of: Shape


Shape: TypeAlias = "type | Maybe | Each | Named | Mapping[str, Shape]"

_COUNTS: Shape = {
    "parameters": int,
    "distinct": Maybe(int),
    "macs": int,
    "multiplications": Maybe(int),
    "bytes": int,
}
_TIME: Shape = {
    "before": float,
    "after": float,
    "ratio": float,
    "low": float,
    "high": float,
    "verdict": str,
}
_PASS: Shape = {
    "name": str,
    "seconds": float,
    "changed": bool,
    "deviation": Maybe(float),
    "verdict": Maybe(str),
    "ties": float,
    "waits": bool,
    "promises": Maybe(Each(str)),
    "left": Maybe({"nodes": int, "parameters": int, "macs": int, "bytes": int}),
}
_DENSITY: Shape = {"low": float, "high": float, "shares": Each(float)}
_PART: Shape = {
    "name": str,
    "op": str,
    "inputs": Maybe(int),
    "outputs": Maybe(int),
    "groups": Maybe(int),
    "kernel": Maybe(Each(int)),
    "density": Maybe(_DENSITY),
}
_LAYER: Shape = {
    "name": str,
    "op": str,
    "before": Maybe(_COUNTS),
    "after": Maybe(_COUNTS),
    "was": Maybe(_PART),
    "parts": Each(_PART),
    "rank": Maybe(int),
    "error": Maybe(float),
}
_PIN: Shape = {"what": str, "channels": int, "weight": str, "why": Each(str)}
_FAMILY: Shape = {
    "width": int,
    "free": int,
    "pinned": int,
    "members": Each({"name": str, "axis": int, "channels": int}),
    "operators": Each(str),
    "pins": Each(_PIN),
}
_RUN: Shape = {"command": str, "model": str, "out": Maybe(str), "versions": Named(str)}
_METRIC: Mapping[str, Shape] = {
    "metric": str,
    "better": str,
    "against": str,
    "before": Maybe(float),
}
_COMPRESS: Shape = {
    "before": _COUNTS,
    "after": _COUNTS,
    "sizes": Named(Each(int)),
    "time": Maybe(_TIME),
    "passes": Each(_PASS),
    "verdict": str,
    "reason": Maybe(str),
    "deviation": Maybe(float),
    "expected": Maybe(float),
    "curve": Maybe({"unit": str, "points": Each({"left": float, "deviation": Maybe(float)})}),
    "active": Maybe(float),
    "eval": Maybe({**_METRIC, "after": Maybe(float)}),
    "target": Maybe({"name": str, "asked": float, "reached": Maybe(float), "statistics": str}),
    "operators": Maybe({"before": Named(int), "after": Named(int)}),
    "layers": Maybe(Each(_LAYER)),
    "families": Maybe(
        {"families": Each(_FAMILY), "total": {"families": int, "pinned_families": int}}
    ),
    "run": Maybe(_RUN),
}
_POINT: Shape = {
    "asked": float,
    "reached": Maybe(float),
    "parameters": int,
    "distinct": Maybe(int),
    "macs": int,
    "multiplications": Maybe(int),
    "bytes": int,
    "deviation": Maybe(float),
    "time": Maybe(_TIME),
    "eval": Maybe(float),
    "file": Maybe(str),
    "missed": Maybe(str),
    "pipeline": Maybe(str),
}
_SWEEP: Shape = {
    "target": str,
    "statistics": str,
    "before": _COUNTS,
    "eval": Maybe(_METRIC),
    "points": Each(_POINT),
    "run": Maybe(_RUN),
}


def read(path: str) -> tuple[Kind, dict[str, Any]]:
    """The report that a file holds, and of which command it is.

    Raises:
        BadInput: it cannot be read, or holds none; the message names the key.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise BadInput(f"{path}: it is no JSON") from None
    try:
        return checked(data)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def checked(data: Any) -> tuple[Kind, dict[str, Any]]:
    """What a report needs of ``data``, with null for all that may be missing, and what it is.

    Raises:
        BadInput: it is no report of redir compress or redir sweep.
    """
    kind: Kind = "sweep" if isinstance(data, dict) and "points" in data else "compress"
    return kind, _checked(data, _SWEEP if kind == "sweep" else _COMPRESS, "")


def _checked(data: Any, shape: Shape, where: str) -> Any:
    match shape:
        case Maybe(of):
            return None if data is None else _checked(data, of, where)
        case Each(of) if isinstance(data, list):
            return [_checked(each, of, f"{where}[{place}]") for place, each in enumerate(data)]
        case Named(of) if isinstance(data, dict):
            return {key: _checked(each, of, f"{where}.{key}") for key, each in data.items()}
        case Mapping() if isinstance(data, dict):
            return {key: _held(data, key, of, where) for key, of in shape.items()}
        case type() if _fits(data, shape):
            return float(data) if shape is float else data
    raise BadInput(
        f"expected a report of redir compress or redir sweep, as --json gives it, with "
        f"{_expected(shape)} for {where.removeprefix('.') or 'all of it'}"
    )


def _held(data: Mapping[str, Any], key: str, shape: Shape, where: str) -> Any:
    return _checked(data.get(key), shape, f"{where}.{key}")


def _fits(data: object, kind: type) -> bool:
    if kind in {str, bool}:
        return isinstance(data, kind)
    if isinstance(data, bool) or not isinstance(data, int | float):
        return False
    if kind is int:
        return isinstance(data, int) and 0 <= data < _MOST
    return abs(data) < _LARGEST


_WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def _expected(shape: Shape) -> str:
    if isinstance(shape, type):
        return _WORDS[shape]
    return "a list" if isinstance(shape, Each) else "an object"
