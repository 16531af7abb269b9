"""What others build on: the names that the reference lists, which do not come and go unseen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.pages import DOCS, ROOT, named

REFERENCE = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
MODULES = re.findall(r"^## `(.*)`$", REFERENCE, re.MULTILINE)
LISTED = ROOT / "tests/public_names.txt"
SNIPPET = re.compile(r"^```python.*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PACKAGE = sorted((ROOT / "docs/examples/redir_plugin").rglob("*.py"))
INSIDE = {"redir.passes.hash.cells.hashed"}  # that a page shows at work, and nobody builds on


def names() -> list[str]:
    """Every public name, with its module."""
    return [f"{m}.{n}" for m in MODULES for n in sorted(import_module(m).__all__)]


def test_no_public_name_goes_unseen() -> None:
    """Where one goes, docs/embed.md says how."""
    assert set(LISTED.read_text(encoding="utf-8").split()) - set(names()) == set()


def test_no_public_name_comes_unseen() -> None:
    """List what comes, for it has to stay; but a new pass has a test and a page of its own."""
    new = set(names()) - set(LISTED.read_text(encoding="utf-8").split())
    assert {name for name in new if not name.startswith("redir.passes.")} == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_public_name_is_there_and_documented(module: str) -> None:
    found = import_module(module)
    said: dict[str, Any] = {name: getattr(found, name) for name in found.__all__}
    own = {n: o for n, o in said.items() if isinstance(o, type) or callable(o)}
    assert [
        n for n, o in own.items() if str(o.__module__).startswith("redir") and not o.__doc__
    ] == []


def imported(text: str) -> Iterator[str]:
    """What a snippet imports of redir."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "redir":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(name: str) -> bool:
    """Whether a name is public: one of a module's, an operator, or a module itself."""
    module, _, last = name.rpartition(".")
    return name in {*names(), *MODULES, *INSIDE} or (module == "redir.ops" and last.isidentifier())


def texts(path: Path) -> list[str]:
    whole = path.read_text(encoding="utf-8")
    return [whole] if path.suffix == ".py" else SNIPPET.findall(whole)


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCS, *PACKAGE], ids=named)
def test_pages_and_the_package_to_start_from_use_public_names(path: Path) -> None:
    assert [name for text in texts(path) for name in imported(text) if not allowed(name)] == []
