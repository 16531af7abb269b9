"""The report in a browser: it shows, sorts and filters, complains of nothing, and all can read it.

It runs Debian's Chromium, and for the rules of accessibility axe-core (npm), whose ``axe.min.js``
the variable ``REDIR_AXE`` names.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redir.app.report import pages
from tests.app.reports import compressed, swept

pytest.importorskip("jinja2", reason="jinja2 is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
MADE: dict[str, Callable[..., dict[str, Any]]] = {"compress": compressed, "sweep": swept}
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --enable-logging=stderr".split()
DARK = "--blink-settings=preferredColorScheme=0"
NARROW = "--window-size=500,900"
_FOUND = re.compile(r'<pre id="found">(.*?)</pre>', re.DOTALL)


def shown(folder: Path, page: str, *flags: str) -> tuple[str, str]:
    """What a page becomes in the browser, and what that says of it."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    how = [*FLAGS, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", *flags]
    done = subprocess.run(
        [str(CHROMIUM), *how, "--dump-dom", f"file://{folder / 'page.html'}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, done.stderr


def asked(folder: Path, page: str, script: str, *flags: str) -> Any:
    """What a script finds out about a page, whose policy is taken away for that."""
    told = f"""
    const tell = (found) => {{
      const held = document.createElement("pre");
      held.id = "found";
      held.textContent = JSON.stringify(found);
      document.body.append(held);
    }};
    {script}"""
    free = re.sub(r"<meta http-equiv=[^>]*>", "", page)
    dom, _ = shown(folder, free.replace("</body>", f"<script>{told}</script></body>"), *flags)
    match = _FOUND.search(dom)
    assert match is not None
    return json.loads(html.unescape(match[1]))


@pytest.mark.parametrize("kind", MADE)
def test_its_own_script_runs_and_nothing_is_complained_of(kind: str, tmp_path: Path) -> None:
    dom, said = shown(tmp_path, pages.page(MADE[kind](), "out.html"))
    assert [line for line in said.splitlines() if "CONSOLE" in line] == []
    assert '<div class="tools" hidden' not in dom


def test_a_script_of_others_does_not_run(tmp_path: Path) -> None:
    page = pages.page(swept(), "out.html")
    dom, said = shown(tmp_path, page.replace("<h1>", "<script>document.title = 'run'</script><h1>"))
    assert "<title>conv" in dom
    assert "Content Security Policy" in said


SORTS = """
const table = document.getElementById("layers-table");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const button = (column) => table.querySelector(`button[data-column="${column}"]`);
const found = [names()];
for (const column of [0, 8, 8]) {
  button(column).click();
  found.push([...names(), button(column).closest("th").getAttribute("aria-sort")]);
}
tell(found);
"""


def test_a_click_on_a_heading_sorts(tmp_path: Path) -> None:
    assert asked(tmp_path, pages.page(compressed(), "out.html"), SORTS) == [
        ["conv", "same", "norm", "(no name)"],
        ["(no name)", "conv", "norm", "same", "ascending"],
        ["conv", "norm", "same", "(no name)", "descending"],
        ["(no name)", "conv", "norm", "same", "ascending"],
    ]


FILTERS = """
const rows = [...document.getElementById("layers-table").tBodies[0].rows];
const told = document.querySelector("[data-count]");
const count = () => [rows.filter((row) => !row.hidden).length, told.textContent];
const search = document.querySelector("[data-filter]");
const found = [count()];
search.value = "BATCH";
search.dispatchEvent(new Event("input"));
found.push(count());
tell(found);
"""


def test_a_field_picks_layers(tmp_path: Path) -> None:
    found = asked(tmp_path, pages.page(compressed(), "out.html"), FILTERS)
    assert found == [[4, "4 of 4"], [1, "1 of 4"]]


WIDE = """
const all = [...document.querySelectorAll("body *")];
const over = (each) => each.getBoundingClientRect().right > window.innerWidth;
tell(all.filter((each) => !each.closest(".scroll, pre") && over(each)).map((e) => e.outerHTML));
"""


@pytest.mark.parametrize("kind", MADE)
def test_only_tables_are_wider_than_a_telephone(kind: str, tmp_path: Path) -> None:
    page = pages.page(MADE[kind]("x" * 500), "out.html")
    assert asked(tmp_path, page, WIDE, NARROW) == []


BROKEN = """
document.querySelector(".costs").parentNode.style.width = "300px";  // no window is less than 500
const lines = (cell) => {
  const text = document.createRange();
  text.selectNodeContents(cell);
  return text.getClientRects().length;
};
const names = [...document.querySelectorAll(".costs tbody th")];
const words = names.filter((each) => !/[ -]/.test(each.textContent));
tell(words.filter((each) => lines(each) > 1).map((each) => each.textContent));
"""


def test_no_word_is_broken_on_a_telephone(tmp_path: Path) -> None:
    page = pages.page(compressed(), "out.html")
    assert asked(tmp_path, page, BROKEN, NARROW) == []


AXE = """
const said = (rule) => [rule.id, rule.nodes.map((node) => node.html)];
axe.run().then((found) => tell(found.violations.map(said)));
"""


@pytest.mark.parametrize("flags", [(), (DARK,), (NARROW,)], ids=["light", "dark", "narrow"])
@pytest.mark.parametrize("kind", MADE)
def test_it_keeps_the_rules_of_accessibility(
    kind: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    axe = Path(os.environ.get("REDIR_AXE", "axe.min.js"))
    if not axe.is_file():
        pytest.skip("REDIR_AXE names no axe.min.js of axe-core")
    script = axe.read_text(encoding="utf-8").replace("</script", "<\\/script")
    page = pages.page(MADE[kind](), "out.html")
    assert asked(tmp_path, page, f"{script}\n{AXE}", *flags) == []
