"""What stands on what: imports run downwards, along floors, and in no circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

import redir

ROOT = Path(__file__).parents[1]
CODE = ("redir", "frontends", "passes", "backends")
FLOORS = (  # the rooms of each, from the ground up; those of one floor do not import each other
    ("redir.errors", "redir.forked", "redir.forking"),
    ("redir.atomic", "redir.figures", "redir.progress", "redir.ir"),
    ("redir.ops", "redir.tasks"),
    ("redir.channels", "redir.text"),
    ("redir.layers",),
    ("redir.frontends", "redir.backends"),
    ("redir.runtime", "redir.io"),
    ("redir.check",),
    ("redir.cost",),
    ("redir.statistics",),
    ("redir.importance", "redir.evaluation"),
    ("redir.pipeline", "redir.training"),
    ("redir.passes",),
    ("redir.testing", "redir.app"),
    ("redir.__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
ALONE = ("redir.frontends", "redir.backends", "redir.passes")  # what is in these knows no sibling
ROOMS_OF = {  # where a package may be imported
    "torch": (
        "redir.frontends.torch",
        "redir.backends.torch",
        "redir.ops.torch_",
        "redir.importance.gradients",
        "redir.importance.labelled",
        "redir.statistics.slopes",
        "redir.statistics.synthetic",
    ),
    "onnxruntime": ("redir.runtime.onnxruntime",),
    "matplotlib": ("redir.figures",),
    "PIL": ("redir.io.image_files", "redir.statistics.preprocessing"),
    "jinja2": ("redir.app.report.pages",),
    "markupsafe": ("redir.app.report.pages",),
    "rich": ("redir.app.tables", "redir.app.bars"),
    "dask": ("redir.pipeline.executors.cluster",),
    "distributed": ("redir.pipeline.executors.cluster",),
}
FILES = sorted(path.relative_to(ROOT) for top in CODE for path in (ROOT / top).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = dict.fromkeys(("redir", *path.with_suffix("").parts))
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path) for path in FILES}
TREES = {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in FILES}


def imports(tree: ast.AST, *, waiting: bool = False) -> Iterator[tuple[str, int]]:
    """The modules that a file imports, each with the line that says so.

    What only the type checker reads is left out, and what waits in a function unless ``waiting``.
    """
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ImportFrom(str(base), names):
                for alias in names:
                    whole = f"{base}.{alias.name}"
                    yield (whole if whole in NAMES else base), node.lineno
            case ast.Import(names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.If(ast.Name("TYPE_CHECKING")):
                continue
            case ast.FunctionDef() if not waiting:
                continue
        yield from imports(node, waiting=waiting)


def room(module: str) -> str | None:
    """The folder, or file beside the folders, that ``module`` stands in; None of redir itself."""
    found = ".".join(module.split(".")[:2])
    return found if found in LEVEL else None


EDGES = [
    (name_of(path), module, f"{path}:{line} imports {module}")
    for path, tree in TREES.items()
    for module, line in imports(tree)
    if module in NAMES and name_of(path) != "redir"
]


def test_every_room_is_on_a_floor() -> None:
    assert {".".join(name.split(".")[:2]) for name in NAMES} - {"redir"} == set(LEVEL)


def test_no_import_runs_up() -> None:
    assert [
        said
        for user, used, said in EDGES
        if (above := room(user)) != (below := room(used))
        and (above is None or below is None or LEVEL[below] >= LEVEL[above])
    ] == []


def test_no_import_runs_in_a_circle() -> None:
    graph = nx.DiGraph((user, used) for user, used, _ in EDGES)
    knots = [part for part in nx.strongly_connected_components(graph) if len(part) > 1]
    assert [said for user, used, said in EDGES for part in knots if {user, used} <= part] == []


@pytest.mark.parametrize("folder", ALONE)
def test_siblings_do_not_import_each_other(folder: str) -> None:
    depth = folder.count(".") + 2
    inside = [(*e, *(".".join(m.split(".")[:depth]) for m in e[:2])) for e in EDGES]
    assert [
        said
        for user, used, said, one, other in inside
        if user.startswith(f"{folder}.") and used.startswith(f"{folder}.") and one != other
    ] == []


@cache
def everywhere() -> list[tuple[Path, str, int]]:
    """The modules that each file imports on each line, in functions too."""
    return [(p, m, n) for p, tree in TREES.items() for m, n in imports(tree, waiting=True)]


@pytest.mark.parametrize("package", ROOMS_OF)
def test_a_package_is_imported_in_its_rooms_only(package: str) -> None:
    assert [
        f"{path}:{line} imports {module}"
        for path, module, line in everywhere()
        if module.split(".")[0] == package and not name_of(path).startswith(ROOMS_OF[package])
    ] == []


@pytest.mark.parametrize(
    ("does", "wanted"),
    [
        ("import redir", set()),
        ("import redir; redir.load('redir/demo/digits.onnx')", {"numpy", "onnx"}),
    ],
)
def test_no_package_is_imported_before_it_is_used(does: str, wanted: set[str]) -> None:
    heavy = {"numpy", "onnx", "networkx", "scipy", *ROOMS_OF}
    line = f"{does}; import sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", line], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert heavy & set(ran.stdout.split()) == wanted


def test_the_face_has_what_it_names() -> None:
    assert all(hasattr(redir, name) for name in redir.__all__)
    assert set(redir.__all__) <= set(dir(redir))
    assert not hasattr(redir, "nonsense")
