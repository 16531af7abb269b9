"""What ``redir passes`` says of a pass, a preset, and a name that there is not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from redir.app import passes
from redir.check.guarantees import SAME_OUTPUTS
from redir.pipeline import Pass, Pipeline, available, fields_of
from redir.pipeline.presets import PRESETS
from tests.commands import Redir

ROOT = Path(__file__).parents[2]
NAMES = [*available(), *PRESETS]


@dataclass(frozen=True)
class Toy(Pass):
    """Does little.

    It does so everywhere. ``often`` is how often; ``how`` is the way. Where ``why`` and ``often``
    are given, as in ``toy{often=3}``, that counts. It ends here.
    """

    why: str
    often: int = field(default=2, kw_only=True)
    how: Literal["well", "badly"] = field(default="well", kw_only=True)
    silent: bool = field(default=False, kw_only=True)
    guarantees = (SAME_OUTPUTS,)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "available", lambda: {"toy": Toy})
    monkeypatch.setattr(passes, "_where", lambda name: f"more on {name}")


@pytest.mark.usefixtures("toy")
def test_a_pass_is_explained(redir: Redir) -> None:
    assert redir("passes toy").out.splitlines() == [
        "toy: Does little.",
        "",
        "  It does so everywhere. It ends here.",
        "",
        "options",
        "  often=2",
        "      often is how often.",
        "  how=well (or badly)",
        "      how is the way.",
        "  why",
        "      Where why and often are given, as in toy{often=3}, that counts.",
        "  silent=false",
        "",
        "guarantees, with these options: same outputs",
        "",
        "example",
        "  redir compress model.onnx small.onnx -p 'toy{often=3}'",
        "",
        "more on toy",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_is_said_on_one_screen(
    redir: Redir, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = redir(f"passes {name}").out.splitlines()
    assert len(lines) <= 48
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", available())
def test_each_option_of_our_passes_has_a_meaning(name: str) -> None:
    kind = available()[name]
    about = passes._options(kind)
    assert about.get("", []) == []
    assert sorted(name for names in about.values() for name in names) == sorted(fields_of(kind))


@pytest.mark.parametrize("name", NAMES)
def test_each_example_is_a_pipeline(redir: Redir, name: str) -> None:
    found = re.search(r"-p '?([^'\n]*)", redir(f"passes {name}").out)
    spec = PRESETS[name] if found is None else found[1]
    assert Pipeline.parse(spec).passes


@pytest.mark.parametrize("name", available())
def test_each_pass_has_the_section_that_is_named(redir: Redir, name: str) -> None:
    section = redir(f"passes {name}").out.splitlines()[-1].rpartition(" ")[2]
    page = (ROOT / "docs/passes.md").read_text("utf-8")
    rows = re.findall(r"^\| \[([^]]*)\]\(passes/", page, re.MULTILINE)
    assert section == name
    assert f"`{name}`" in {word for row in rows for word in row.split(", ")}


def test_a_preset_names_what_it_is_for_and_its_passes(redir: Redir) -> None:
    lines = redir("passes palettes").out.splitlines()
    assert lines[0].startswith("preset palettes: palettes stores weights of few values")
    steps = [str(step) for step in Pipeline.parse(PRESETS["palettes"]).passes]
    assert [
        step for step in steps if not any(line.startswith(f"  {step}: ") for line in lines)
    ] == []


@pytest.mark.parametrize(
    ("name", "presets", "first"), [("merge", [], "merge"), ("exact", ["exact"], "fold-constants")]
)
def test_json_holds_what_is_named(redir: Redir, name: str, presets: list[str], first: str) -> None:
    data = redir(f"passes {name} --json").json
    assert list(data["presets"]) == presets
    assert data["passes"][0]["name"] == first


@pytest.mark.parametrize(
    ("name", "nearest"), [("hsah", "hash"), ("prune_vocabulary", "prune-vocabulary"), ("rd", "red")]
)
def test_an_unknown_name_is_refused_with_the_nearest(redir: Redir, name: str, nearest: str) -> None:
    done = redir(f"passes {name}")
    assert done.code == 2
    wrong = f"no pass or preset is called {name!r}; the nearest is {nearest!r}"
    assert done.err == f"redir: error: {wrong}\n"
