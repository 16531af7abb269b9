"""What other packages add is found by its name, of which each belongs to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redir.errors import BadPipeline
from redir.io import plugins
from redir.pipeline import Pipeline, available
from tests.commands import Redir, running

Installing = Callable[..., None]
SOURCE = """
from dataclasses import dataclass
from redir import Graph, Pass

@dataclass(frozen=True)
class Mine(Pass):
    "Does nothing."

    def run(self, graph: Graph) -> Graph:
        return graph
"""


@pytest.fixture
def installing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installing]:
    """Leaves a package with one pass as pip does, each in a folder of its own."""

    def install(package: str, name: str, what: str = "Mine") -> None:
        folder = tmp_path / package
        told = folder / f"{package}-1.0.dist-info"
        told.mkdir(parents=True)
        head = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        (told / "METADATA").write_text(head, encoding="utf-8")
        points = f"[redir.passes]\n{name} = {package}:{what}\n"
        (told / "entry_points.txt").write_text(points, encoding="utf-8")
        (folder / f"{package}.py").write_text(SOURCE, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        plugins.forget()

    yield install
    monkeypatch.undo()
    plugins.forget()


@pytest.fixture
def redir(capsys: pytest.CaptureFixture[str]) -> Redir:
    return running(capsys)


def test_a_name_that_two_packages_claim_is_refused_with_both(installing: Installing) -> None:
    installing("one_plugin", "mine")
    installing("other_plugin", "mine")
    with pytest.raises(BadPipeline) as refused:
        Pipeline.parse("mine")
    assert str(refused.value) == (
        "pass 'mine' is claimed by one-plugin (one_plugin:Mine) and other-plugin "
        "(other_plugin:Mine): one of them has to be uninstalled"
    )


def test_a_name_of_our_own_is_not_taken_over(installing: Installing) -> None:
    installing("greedy_plugin", "merge")
    with pytest.raises(BadPipeline, match=r"'merge' is claimed by greedy-plugin .* and redir "):
        Pipeline.parse("merge")


def test_what_is_claimed_once_still_runs(installing: Installing) -> None:
    installing("first_plugin", "theirs")
    installing("second_plugin", "theirs")
    installing("third_plugin", "harmless")
    assert str(Pipeline.parse("harmless,cse")) == "mine,cse"


def test_the_listing_says_so_in_one_line(installing: Installing, redir: Redir) -> None:
    installing("early_plugin", "ours")
    installing("late_plugin", "ours")
    done = redir("passes")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "pass 'ours' is claimed by early-plugin" in done.err


def test_what_is_no_pass_is_refused_by_its_name(installing: Installing) -> None:
    installing("odd_plugin", "odd", "dataclass")
    with pytest.raises(BadPipeline, match="odd_plugin:dataclass, installed as the pass 'odd', is"):
        Pipeline.parse("odd")


def test_the_same_thing_named_twice_is_one(installing: Installing, tmp_path: Path) -> None:
    """As an old folder of metadata leaves it, under another name of the package."""
    installing("renamed_plugin", "same")
    told = tmp_path / "renamed_plugin/older-0.9.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: older\nVersion: 0.9\n", "utf-8")
    (told / "entry_points.txt").write_text("[redir.passes]\nsame = renamed_plugin:Mine\n", "utf-8")
    plugins.forget()
    assert "same" in available()
