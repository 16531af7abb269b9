"""The repository's folders and what pyproject.toml says of them agree."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CODE = ("redir", "frontends", "passes", "backends")
LONGEST_FILE, LONGEST_FUNCTION = 400, 35
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MODULES = sorted(path.relative_to(ROOT) for top in CODE for path in (ROOT / top).rglob("*.py"))


def package_of(folder: Path) -> str:
    return ".".join(dict.fromkeys(("redir", *folder.parts)))


@pytest.fixture
def tracked() -> list[str]:
    """Every file that git tracks."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return listing.stdout.rstrip("\0").split("\0")


def test_listed_packages_are_the_folders_that_hold_modules() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted({package_of(module.parent) for module in MODULES})


def test_templates_are_package_data() -> None:
    given = PYPROJECT["tool"]["setuptools"]["package-data"]["redir.app.report"]
    folder = ROOT / "redir/app/report"
    others = {path for path in folder.rglob("*.*") if path.suffix not in {".py", ".pyc"}}
    assert {path for pattern in given for path in folder.glob(pattern)} == others


def test_every_pass_has_an_entry_point() -> None:
    entries = PYPROJECT["project"]["entry-points"]["redir.passes"].values()
    files = {path.stem for path in (ROOT / "passes").iterdir()} - {"__init__", "__pycache__"}
    assert {entry.partition(":")[0] for entry in entries} == {f"redir.passes.{f}" for f in files}


def test_no_other_top_level_folders(tracked: list[str]) -> None:
    folders = {top for top, slash, _ in (path.partition("/") for path in tracked) if slash}
    visible = {folder for folder in folders if not folder.startswith(".")}
    assert visible <= {*CODE, "tests", "docs"}


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The length of a function from ``def`` on, without its docstring."""
    said = node.body[0] if ast.get_docstring(node) is not None else None
    spent = 0 if said is None else (said.end_lineno or 0) - said.lineno + 1
    return (node.end_lineno or 0) - node.lineno + 1 - spent


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_a_docstring_and_neither_it_nor_a_function_is_long(module: Path) -> None:
    text = (ROOT / module).read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = [n for n in ast.walk(tree) if isinstance(n, FUNCTIONS)]
    assert ast.get_docstring(tree)
    assert len(text.splitlines()) <= LONGEST_FILE
    assert [f.name for f in functions if lines(f) > LONGEST_FUNCTION] == []
