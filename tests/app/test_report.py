"""The report: what stands in it, that nothing of a model gets out of its place, and commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redir.app.report import pages, schema
from redir.errors import BadInput, visible
from redir.io import models
from redir.ir import Graph, Value
from redir.ops import Conv, Relu
from tests.app.reports import COUNTS, Page, compressed, swept
from tests.commands import Redir
from tests.helpers import const, placeholder
from tests.hostile.texts import HOSTILE

pytest.importorskip("jinja2", reason="jinja2 is not installed")
MADE: dict[str, Callable[[str], dict[str, Any]]] = {"compress": compressed, "sweep": swept}
QUICK = "--statistics drawn --align 1 --no-timing --quiet"


def page(data: dict[str, Any]) -> Page:
    return Page(pages.page(data, "out.html"))


def rows(data: dict[str, Any], number: int) -> list[str]:
    """The words of each row of a table of the page, the head too."""
    table = pages.page(data, "out.html").split("<table")[number + 1].split("</table>")[0]
    parts = (Page(f"<tr{row}") for row in table.split("<tr")[1:])
    return [" ".join(text for _, text in part.texts) for part in parts]


@cache
def plain(kind: str, ending: str) -> str:
    """The report of each kind with plain names."""
    return pages.page(MADE[kind]("conv"), f"out.{ending}")


def is_safe(text: str) -> bool:
    """Whether nothing steers a display, but line ends and the space before a unit."""
    return text.replace("\n", "").replace("\u202f", "").isprintable()


# what stands there


def test_the_page_has_these_sections() -> None:
    assert page(compressed()).of("h2") == [
        "Before and after",
        "What each pass did and promised",
        "Layer by layer",
        "What other shares were expected to cost",
        "Operators",
        "Channels that must change together",
        "How to load the result",
        "How this was made",
    ]
    assert page(swept()).of("h2") == ["The curve", "The points", "How this was made"]


def test_costs_stand_before_and_after_with_the_spread_of_time() -> None:
    assert rows(compressed(), 0) == [
        "for one run before after left",
        "parameters 100 40 40.0\u202f%",
        "distinct weights 90 39 43.4\u202f%",
        "multiply-adds 5,000 2,000 40.0\u202f%",
        "multiplications 4,000 1,900 47.5\u202f%",
        "bytes 400 160 40.0\u202f%",
        "time 2.000\u202fms 1.000\u202fms 50.0\u202f% (40.0\u201360.0\u202f%)",
        "accuracy 90.00\u202f% 87.50\u202f% \u22122.50 points",
    ]


def test_passes_say_what_they_did_and_promised() -> None:
    assert rows(compressed(), 1)[1:] == [
        "conv measured 0.25 7 40 2,000 0.50\u202fs conv",
        "cse conv 1e-07 7 40 2,000 0.50\u202fs conv",
    ]
    assert "Found nothing to do:" in " ".join(page(compressed()).of("p"))


def test_layers_say_what_they_were_and_are_made_of() -> None:
    data = compressed("a")
    less = {"parameters": 50, "distinct": 45, "multiplications": 1600, "bytes": 200}
    data["after"] = {**less, "macs": 2000}
    found = [row.replace("\u2013", "-") for row in rows(data, 2)[2:]]
    parts = "8\u21924 3\u00d71 then 4\u219216 1\u00d73"
    assert found == [
        f"a a 8\u219216 3\u00d73 {parts} 4 16 0.031 5,000 2,000 100 40",
        "same Conv 8\u219216 3\u00d73 8\u219216 3\u00d73 - 16 - 5,000 2,000 100 40",
        "norm BatchNormalization - gone - - - 5,000 0 100 0",
        "(no name) Gemm new 3\u21924 - 4 - 0 2,000 0 40",
    ]


def test_without_a_plan_no_errors_are_shown() -> None:
    data = compressed()
    for layer in data["layers"]:
        layer["error"] = None
    assert "error" not in rows(data, 2)[1].split()
    assert "of them together 0.04" in pages.page(compressed(), "out.html")


def test_norms_that_are_gone_have_no_row_but_a_name() -> None:
    data = compressed()
    data["layers"][2]["before"] = {**COUNTS, "macs": 0}
    assert len(rows(data, 2)) == 2 + 3
    text = pages.page(data, "out.html")
    assert "1 layers that multiplied nothing are gone" in text
    assert page(data).of("p").count("norm") == 1


def test_names_may_be_broken_behind_their_parts() -> None:
    text = pages.page(compressed("/a.b/<c>"), "out.html")
    assert "/<wbr>a.<wbr>b/<wbr>&lt;c&gt;</th>" in text


def test_what_is_more_than_before_stands_out() -> None:
    data = compressed()
    data["time"] = {**data["time"], "ratio": 1.2}
    assert pages.page(data, "out.html").count('class="bar more"') == 1


def test_what_only_handles_sizes_has_no_row() -> None:
    data = compressed()
    data["layers"][1]["before"] = data["layers"][1]["after"] = {
        **COUNTS,
        "macs": 0,
        "parameters": 2,
    }
    assert len(rows(data, 2)) == 2 + 3
    assert "1 operators that multiply nothing" in pages.page(data, "out.html")


def test_families_say_what_pins_them_and_why() -> None:
    assert rows(compressed(), 4)[1:] == ["1 8 6 conv conv conv > conv2"]


def test_pinned_families_come_first() -> None:
    data = compressed()
    (family,) = data["families"]["families"]
    data["families"]["families"] = [{**family, "pins": []}, family]
    assert [row.split()[0] for row in rows(data, 4)[1:]] == ["2", "1"]


def test_operators_that_stay_as_many_have_no_row() -> None:
    assert rows(compressed(), 3)[1:] == ["conv 3 0"]
    assert "As before: Relu 1." in pages.page(compressed(), "out.html")


def test_a_sweep_says_first_what_is_left_of_the_metric() -> None:
    head = rows(swept(), 0)[0]
    assert head.startswith("asked reached accuracy deviation time parameters ")
    assert head.endswith(" file")


def test_a_sweep_without_a_metric_or_files_has_no_column_of_them() -> None:
    data = swept()
    data["eval"] = None
    data["points"] = [{**point, "file": None, "missed": None} for point in data["points"]]
    head = rows(data, 0)[0]
    assert head.startswith("asked reached deviation time parameters ")
    assert not head.endswith(" file")


def test_a_sweep_has_its_curves_and_points() -> None:
    found = page(swept())
    assert found.of("figcaption") == ["Accuracy", "Time"]
    assert found.tags.count("circle") == 5
    assert "conv" in rows(swept(), 0)[-1]


def test_shares_and_deviations_are_never_shown_smaller_than_they_are() -> None:
    data = compressed()
    data["after"] = {**COUNTS, "macs": 2001}
    data["deviation"] = 0.1201
    text = pages.page(data, "out.html")
    assert "40.1\u202f%" in text
    assert "<b>0.13</b>" in text


def test_an_older_report_has_fewer_sections() -> None:
    data = {k: compressed()[k] for k in "before after sizes time passes verdict deviation".split()}
    assert page(data).of("h2") == ["Before and after", "What each pass did and promised"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"passes": []}, "Nothing was found to remove"),
        ({"verdict": "skipped", "reason": "no sizes"}, "of the outputs is skipped: no sizes."),
        ({}, "Some passes change the outputs on purpose; those that promise"),
        ({"passes": compressed()["passes"][1:]}, "The outputs are the same but for rounding."),
    ],
)
def test_the_verdict_is_a_sentence(changes: dict[str, Any], said: str) -> None:
    assert said in pages.page({**compressed(), **changes}, "out.html")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("a.onnx", "InferenceSession('a.onnx')"),
        ("a.py", "source.load()"),
        ("a.redir", "redir.load"),
    ],
)
def test_it_says_how_to_load_the_result(out: str, said: str) -> None:
    data = compressed()
    data["run"]["out"] = out
    assert any(said in text for text in page(data).of("code"))


def test_the_short_form_is_a_few_tables() -> None:
    text = pages.page(compressed(), "out.md")
    assert text.startswith("### `conv`, by redir\n\n| | before | after | left |\n")
    assert "| multiply-adds | 5,000 | 2,000 | 40.0\u202f% |" in text
    assert len(text) < 2000


# nothing gets out


@pytest.mark.parametrize("kind", MADE)
def test_a_page_needs_nothing_else(kind: str) -> None:
    text = pages.page(MADE[kind]("conv"), "out.html")
    names = {name for name, _ in Page(text).attributes}
    assert names.isdisjoint({"src", "href", "srcset", "action", "style", "onclick", "data"})
    assert re.search(r"https?:|//[a-z]|@import|url\(", text.split("<body>")[0]) is None
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("text", [t for t in HOSTILE if t], ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("kind", MADE)
def test_hostile_names_stay_text(kind: str, text: str) -> None:
    made = pages.page(MADE[kind](text), "out.html")
    found, usual = Page(made), Page(plain(kind, "html"))
    assert found.tags == usual.tags
    assert [name for name, _ in found.attributes] == [name for name, _ in usual.attributes]
    assert is_safe(made)
    assert any(visible(text).strip() in shown for _, shown in found.texts)


@pytest.mark.parametrize("text", [t for t in HOSTILE if t], ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("kind", MADE)
def test_hostile_names_stay_code_in_markdown(kind: str, text: str) -> None:
    found = pages.page(MADE[kind](text), "out.md")
    assert [re.sub(r"`[^`]*`", "`", line) for line in found.split("\n")] == [
        re.sub(r"`[^`]*`", "`", line) for line in plain(kind, "md").split("\n")
    ]
    assert is_safe(found)


def without(data: Any, path: list[Any], put: Any) -> Any:
    """``data`` with something else at a place."""
    first, *rest = path
    held = dict(data) if isinstance(data, dict) else list(data)
    held[first] = without(held[first], rest, put) if rest else put
    return held


@pytest.mark.parametrize(
    ("path", "put", "named"),
    [
        (["before"], None, "an object for before"),
        (["before", "macs"], "many", "a whole number for before.macs"),
        (["before", "macs"], -1, "a whole number for before.macs"),
        (["before", "macs"], 10**400, "a whole number for before.macs"),
        (["deviation"], float("nan"), "a number for deviation"),
        (["deviation"], float("inf"), "a number for deviation"),
        (["time", "low"], True, "a number for time.low"),
        (["passes"], {}, "a list for passes"),
        (["passes", 1, "name"], 3, "a text for passes[1].name"),
        (["layers", 0, "was", "kernel", 0], 1.5, "a whole number for layers[0].was.kernel[0]"),
        (["run", "versions", "redir"], [], "a text for run.versions.redir"),
        (["sizes"], 3, "an object for sizes"),
    ],
)
def test_what_does_not_fit_is_named(path: list[Any], put: Any, named: str) -> None:
    with pytest.raises(BadInput, match="expected a report of redir") as raised:
        schema.checked(without(compressed(), path, put))
    assert str(raised.value).endswith(f"with {named}")


@pytest.mark.parametrize("number", [0, 0.0, -1, 1e299, -1e299, 5e-324])
@pytest.mark.parametrize("kind", MADE)
def test_any_number_makes_a_page(kind: str, number: float) -> None:
    def put(data: Any) -> Any:
        if isinstance(data, float):
            return number
        if isinstance(data, dict):
            return {key: put(each) for key, each in data.items()}
        return [put(each) for each in data] if isinstance(data, list) else data

    assert set(page(put(MADE[kind]("conv"))).tags) <= set(Page(plain(kind, "html")).tags)


# commands


def conv(x: Value, outputs: int, seed: int) -> Value:
    weight = np.random.default_rng(seed).normal(size=(outputs, x.type.size(1) or 0, 3, 3))
    return Relu(Conv(x, const(weight), pads=(1, 1, 1, 1)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that holds ``good.onnx``."""
    monkeypatch.chdir(tmp_path)
    x = placeholder("n", 3, 8, 8)
    models.save(Graph({"x": x}, {"y": conv(conv(x, 6, 0), 4, 1)}), "good.onnx")
    return tmp_path


def test_compress_writes_a_report_that_its_json_gives_again(redir: Redir) -> None:
    how = f"--macs 0.5 {QUICK} --json out.json --report out.html"
    assert redir(f"compress good.onnx out.onnx {how}").code == 0
    assert redir("report out.json again.html").code == 0
    assert Path("again.html").read_text() == (text := Path("out.html").read_text())
    assert f"redir compress good.onnx out.onnx {how}" in text


def test_report_names_its_page_after_the_json(redir: Redir) -> None:
    Path("held.json").write_text(json.dumps(swept()))
    done = redir("report held.json")
    assert (done.code, done.out, done.err) == (0, "", "redir: held.html is written\n")
    assert Path("held.html").read_text().startswith("<!doctype html>")


def test_sweep_writes_a_report(redir: Redir) -> None:
    command = f"sweep good.onnx --macs 0.5:0.7:0.2 {QUICK} --report out.html --json out.json"
    assert redir(command).code == 0
    text = Path("out.html").read_text()
    assert Page(text).tags.count("circle") == 2
    assert redir("report out.json again.html").code == 0
    assert Path("again.html").read_text() == text


def test_the_short_form_is_asked_for_by_its_ending(redir: Redir) -> None:
    assert redir("compress good.onnx out.onnx --no-timing --quiet --report out.md").code == 0
    assert Path("out.md").read_text().startswith("### `good.onnx`, by redir")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("compress good.onnx out.onnx --report out.pdf", "ends in .html or .md"),
        ("compress good.onnx out.onnx --report -", "ends in .html or .md"),
        ("compress good.onnx out.onnx --report no/out.html", "no/out.html"),
        ("compress good.onnx out.onnx --json a.md --report a.md", "two files"),
        ("sweep good.onnx --macs 0.5 --json a.md --report ./a.md", "two files"),
        ("sweep good.onnx --macs 0.5 --report out.txt", "ends in .html or .md"),
        ("report none.json", "none.json: No such file"),
        ("report good.onnx", "good.onnx: it is no JSON"),
        ("report deep.json", "deep.json: it is no JSON"),
        ("report held.json", "with an object for before"),
        ("report held.json held.md", "with an object for before"),
        ("report held.json out.pdf", "ends in .html or .md"),
        ("report list.json", "with an object for all of it"),
        ("report list.json list.html", "with an object for all of it"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(
    redir: Redir, folder: Path, command: str, named: str
) -> None:
    Path("held.json").write_text("{}")
    Path("list.json").write_text("[1]")
    Path("deep.json").write_text("[" * 100_000)
    before = sorted(folder.iterdir())
    done = redir(command)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert named in done.err
    assert sorted(folder.iterdir()) == before


def test_a_report_does_not_replace_its_json(redir: Redir) -> None:
    Path("held.md").write_text(json.dumps(swept()))
    assert redir("report held.md held.md").code == 2


@pytest.mark.parametrize(
    "command", ["compress good.onnx out.onnx --report out.html", "report held.json"]
)
def test_without_jinja_it_is_refused_before_the_work(
    redir: Redir, monkeypatch: pytest.MonkeyPatch, folder: Path, command: str
) -> None:
    monkeypatch.setattr(pages, "Environment", None)
    done = redir(command)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "a report needs redir's extra 'report'" in done.err
    assert [path.name for path in folder.iterdir()] == ["good.onnx"]
