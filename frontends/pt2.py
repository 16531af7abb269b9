"""Checking a ``.pt2`` file before torch reads it: it must hold no code that reading would run.

torch keeps the program as JSON, and weights as bytes; but it unpickles what it cannot keep so,
loads compiled libraries, and evaluates sizes that are written as text.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from redir import limits
from redir.errors import BadInput

_KNOWN = re.compile(
    r"[^/]*/("
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/(version|serialization_id)"
    r"|data/weights/(weight_\d+|[^/]+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|[^/]+_constants_config\.json)"
    r"|data/sample_inputs/[^/]+\.pt|models/[^/]+\.json|extra/.*)"
)
_HARMLESS = frozenset({"builtins", "collections"})
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Load,
    ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_HINT = "build the module in Python and call redir.from_torch(module, args)"


def check(file: BinaryIO, restricted_load: Callable[[io.BytesIO], object]) -> None:
    """Refuse an archive that torch would run code from; the file is left at its start.

    ``restricted_load`` reads a pickle of tensors and nothing else.

    Raises:
        BadInput: it is no such archive, or holds what is not plain data.
        TooLarge: what it holds is much larger than it is.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(archive)
            for name in archive.namelist():
                _check_content(name, archive, restricted_load)
    except (zipfile.BadZipFile, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise BadInput("not a program that torch.export.save wrote, or a damaged one") from None
    file.seek(0)


def _check_members(archive: zipfile.ZipFile) -> None:
    limits.ask(sum(info.file_size for info in archive.infolist()), "what it holds")
    names = archive.namelist()
    if not any(name.endswith("/archive_version") for name in names):
        raise BadInput("not a program that torch.export.save wrote, or one of an old torch")
    odd = next((n for n in names if not _KNOWN.fullmatch(n) or names.count(n) > 1), None)
    if odd is not None:
        raise BadInput(f"it holds {odd!r}, which may be code: {_HINT}")


def _check_content(
    name: str, archive: zipfile.ZipFile, restricted_load: Callable[[io.BytesIO], object]
) -> None:
    if name.endswith(".json") and "/extra/" not in name:
        _walk(json.loads(archive.read(name)), name)
    elif "/sample_inputs/" in name and (data := archive.read(name)):
        try:
            restricted_load(io.BytesIO(data))
        except Exception:  # noqa: BLE001 - whatever torch raises
            raise BadInput(f"{name!r} holds pickled objects other than tensors: {_HINT}") from None


def _walk(held: Any, name: str) -> None:
    """Look into nested JSON, also where a text is JSON itself."""
    if isinstance(held, dict):
        _check_object(held, name)
        for part in held.values():
            _walk(part, name)
    elif isinstance(held, list):
        for part in held:
            _walk(part, name)
    elif isinstance(held, str) and held[:1] in {"[", "{"}:
        try:
            inner = json.loads(held)
        except json.JSONDecodeError:
            return
        _walk(inner, name)


def _check_object(held: dict[str, Any], name: str) -> None:
    module = held.get("default_factory_module", "builtins")
    if held.get("use_pickle") or "__enum__" in held or module not in _HARMLESS:
        raise BadInput(f"{name!r} refers to pickled objects or to code: {_HINT}")
    if "expr_str" in held and not _is_arithmetic(held["expr_str"]):
        raise BadInput(f"{name!r} states a size that is no arithmetic: {held['expr_str']!r}")


def _is_arithmetic(text: object) -> bool:
    """Whether evaluating a text only computes: numbers, symbols, sympy's functions of them."""
    try:
        tree = ast.parse(str(text), mode="eval")
    except SyntaxError:
        return False
    return all(map(_is_plain, ast.walk(tree)))


def _is_plain(part: ast.AST) -> bool:
    if isinstance(part, ast.Call):
        return isinstance(part.func, ast.Name) and part.func.id[:1].isupper()
    if isinstance(part, ast.Constant):  # a text is the name of a symbol
        return not isinstance(part.value, str) or part.value.isidentifier()
    return isinstance(part, _ARITHMETIC)
