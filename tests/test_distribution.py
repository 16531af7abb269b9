"""What is published: a wheel and an sdist that are whole, say what they are, and run alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

import redir

setuptools = pytest.importorskip("setuptools", reason="setuptools builds the package")

ROOT = Path(__file__).parents[1]
CODE = ("redir", "frontends", "passes", "backends")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORK = {
    "dev",
    "docs",
    "all",
}  # extras that are for work on redir itself, and the one for all others
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints, without what Python is told to do here."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    ran = subprocess.run(
        [*map(str, command)], cwd=cwd, env=plain, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def built(kind: str, source: Path, folder: Path) -> Path:
    """A wheel or an sdist of a folder."""
    folder.mkdir()
    code = f"from setuptools import build_meta as b; b.build_{kind}({str(folder)!r})"
    run(sys.executable, "-c", code, cwd=source)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy: setuptools leaves folders behind."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    for name in CODE:
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    return built("sdist", source, folder / "made")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of the sdist, so that nothing is missing there."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return built("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "made")


@pytest.fixture
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_has_each_file_of_the_code_and_no_other(wheel: Path) -> None:
    files = [p for top in CODE for p in (ROOT / top).rglob("*") if p.is_file()]
    parts = [p.relative_to(ROOT).parts for p in files if p.suffix != ".pyc"]
    wanted = {"/".join(dict.fromkeys(("redir", *names))) for names in parts}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert "redir/py.typed" in held


def test_there_is_one_version(metadata: Message) -> None:
    assert metadata["Version"] == redir.__version__
    assert "version" not in PROJECT


def test_the_metadata_says_what_it_is(metadata: Message, wheel: Path) -> None:
    assert metadata["Name"] == "redir"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).startswith("# redir")
    assert wheel.name == f"redir-{redir.__version__}-py3-none-any.whl"


def test_classifiers_are_known_and_have_each_python_from_the_oldest_on(metadata: Message) -> None:
    said = metadata.get_all("Classifier", [])
    minors = [int(c.rpartition(".")[2]) for c in said if re.search(r":: 3\.\d+$", c)]
    assert minors == list(range(11, max(minors) + 1))
    assert "Typing :: Typed" in said
    assert not [c for c in said if c.startswith("License ::")]  # the expression says it


def test_all_has_each_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    ((named,),) = [re.findall(r"redir\[(.*)\]", requirement) for requirement in extras["all"]]
    assert set(named.split(",")) == set(extras) - WORK


def dependencies(name: str) -> set[str]:
    """A package that is installed here, and all that it needs."""
    found, waiting = set[str](), [name]
    while waiting:
        each = re.split(r"[^\w.-]", waiting.pop())[0]
        if each not in found:
            found.add(each)
            needs = distribution(each).requires or []
            waiting += [need for need in needs if ";" not in need]
    return found


def link(names: set[str], site: Path) -> None:
    """Have packages that are installed here in another environment, too."""
    for name in names:
        for file in distribution(name).files or []:
            there = site / file.parts[0]
            if file.parts[0] != ".." and not there.exists():
                there.symlink_to(Path(str(distribution(name).locate_file(file.parts[0]))))


@pytest.fixture
def alone(wheel: Path, tmp_path: Path) -> Path:
    """The folder of commands of an environment with redir and what it needs, but no extra."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    offline = ("--disable-pip-version-check", "--no-index", "--no-deps", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *offline, wheel)
    needed = set().union(*(dependencies(need) for need in PROJECT["dependencies"]))
    link(needed, _site(python))
    return python.parent


def _site(python: Path) -> Path:
    return Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def test_python_that_starts_in_a_checkout_finds_all_packages(tmp_path: Path) -> None:
    site = {str(distribution(name).locate_file("")) for name in ("numpy", "onnx")}
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT), *sorted(site)]}\n"
        "import redir; print(*redir.load(redir.__path__[0] + '/demo/digits.onnx').inputs)"
    )
    # -S leaves out what an editable install does to find them.
    assert run(sys.executable, "-S", "-c", code, cwd=tmp_path) == "image\n"


@pytest.mark.nightly
def test_it_compresses_without_an_extra(alone: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "redir/demo/digits.onnx", tmp_path / "model.onnx")
    where = run(alone / "python", "-c", "import redir; print(redir.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
    assert run(alone / "redir", "--version", cwd=tmp_path) == f"redir {redir.__version__}\n"
    run(alone / "redir", "compress", "model.onnx", "small.onnx", "--quiet", cwd=tmp_path)
    assert (tmp_path / "small.onnx").exists()


@pytest.mark.nightly
def test_an_extra_that_is_missing_is_named(alone: Path, tmp_path: Path) -> None:
    code = "import redir; redir.to_torch(redir.load(redir.__path__[0] + '/demo/digits.onnx'))"
    ran = subprocess.run(
        [alone / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "MissingExtra" in ran.stderr
    assert "extra 'torch'" in ran.stderr


@pytest.mark.nightly
def test_the_demo_runs_with_onnxruntime(alone: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    link(dependencies("onnxruntime"), _site(alone / "python"))
    assert "exact" in run(alone / "redir", "demo", cwd=tmp_path)
