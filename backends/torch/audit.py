"""The last look at the source that was written: it holds only what redir writes.

Each name and number in it was checked where it came in. This looks at the whole once more, for the
source is run, and a rule that let a name of a model through as it was would let it run anything.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from redir.backends.torch.names import CALLED, HELPERS
from redir.errors import Unsupported

_IMPORTS = frozenset(
    {
        "from collections import OrderedDict",
        "from dataclasses import dataclass",
        "from pathlib import Path",
        "from typing import NamedTuple",
        "import torch",
        "import torch.nn.functional as F",
        "from safetensors.torch import load_file",
        "from torch import nn",
    }
)
_METHODS = frozenset({"__init__", "__getitem__", "forward"})
_FREE = CALLED | frozenset(
    """bool dict divmod enumerate isinstance next object reversed slice str sum ValueError
    zip""".split()
)
_FILES = frozenset({"compile", "from_file", "hub", "load", "open", "os", "save", "sys"})
_SPACES = frozenset({("torch",), ("F",), ("nn",), ("torch", "linalg"), ("torch", "fft")})
_RESULTS = ("torch", "return_types")
_LEAVES = ("torch", "utils", "_pytree", "tree_leaves")
_OPERATOR = 5  # parts of torch.ops.SPACE.NAME.OVERLOAD


def check(text: str) -> None:
    """Refuse source that holds anything that redir does not write.

    Raises:
        Unsupported: it does, so that something in the model got where it must not.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unsupported(f"the names of the model make no valid source: {error}") from None
    odd = next(_odd(tree), None)
    if odd is not None:
        raise Unsupported(f"the source would hold {odd}, which redir does not write")


def _odd(tree: ast.Module) -> Iterator[str]:
    """What does not belong into a file."""
    for statement in tree.body:
        if not _belongs(statement):
            yield ast.unparse(statement).partition("\n")[0]
    bound = set(_bound(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Name(name, ast.Load()) if name not in bound | _FREE | {"__file__"}:
                yield f"the name {name}"
            case ast.Attribute() if not _is_reached(node):
                yield ast.unparse(node)
            case ast.Global() | ast.Nonlocal() | ast.NamedExpr() | ast.Await() | ast.Try():
                yield ast.unparse(node)


def _belongs(statement: ast.stmt) -> bool:
    """Whether a statement may stand in a file by itself."""
    match statement:
        case ast.Expr(ast.Constant(str())):
            return True
        case ast.Import() | ast.ImportFrom():
            return ast.unparse(statement) in _IMPORTS
        case ast.FunctionDef(name, decorator_list=[]):
            return name in HELPERS | {"build", "load"}
        case ast.ClassDef(bases=[], keywords=[], decorator_list=[ast.Name("dataclass")]):
            return all(map(_is_part, statement.body))
        case ast.ClassDef(bases=[base], keywords=[], decorator_list=[]):
            good = ast.unparse(base) in {"nn.Module", "NamedTuple"}
            return good and all(map(_is_part, statement.body))
    return False


def _is_part(statement: ast.stmt) -> bool:
    """Whether a statement may stand in a class."""
    match statement:
        case ast.Expr(ast.Constant(str())) | ast.Pass():
            return True
        case ast.FunctionDef(name, decorator_list=[]):
            return name in _METHODS
        case ast.AnnAssign(ast.Name(), ast.Name("object"), ast.Constant(None)):
            return True
    return False


def _bound(tree: ast.Module) -> Iterator[str]:
    """The names that a file defines."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.Name(name, ast.Store()):
                yield name
            case ast.arg(name):
                yield name
            case ast.alias(name, other):
                yield other or name


def _is_reached(node: ast.Attribute) -> bool:
    """Whether an attribute is one that redir writes: of torch, right in a few of its modules."""
    path = _path(node)
    if path[:2] == ("torch", "ops"):
        return len(path) <= _OPERATOR
    if node.attr.startswith("__") and ast.unparse(node) != "super().__init__":
        return False
    if path[:1] not in _SPACES or path in {_LEAVES[:3], _LEAVES}:
        return True
    return path in _SPACES | {_RESULTS} or (
        path[:-1] in _SPACES | {_RESULTS} and path[-1] not in _FILES
    )


def _path(node: ast.expr) -> tuple[str, ...]:
    """The names of ``torch.linalg.norm``; none where it begins with more than a name."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (above := _path(node.value)):
        return (*above, node.attr)
    return ()
