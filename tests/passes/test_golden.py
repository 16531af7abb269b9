"""Golden pairs: a graph, and what a pass makes of it, word for word.

A file in ``tests/golden/<pass>/`` starts with ``#`` and the pass with its options; the graph
follows, then ``# after`` and what the pass makes of it, which ``pytest --bless`` writes anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from redir.ir.printer import show
from redir.ir.tensor import Tensor
from redir.pipeline import Pipeline, available
from redir.testing import check_on
from redir.text import parse

FOLDER = Path(__file__).parents[1] / "golden"
PAIRS = sorted(FOLDER.glob("*/*.txt"))
AFTER = "# after\n"

every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p.parent.name}-{p.stem}")


@pytest.fixture
def expected(request: pytest.FixtureRequest) -> Callable[[Path, str], str]:
    """What a file says comes after; under ``--bless`` it first takes what was found."""

    def read(pair: Path, found: str) -> str:
        before, _, after = pair.read_text(encoding="utf-8").partition(AFTER)
        if request.config.getoption("--bless"):
            after = found
            pair.write_text(before + AFTER + after, encoding="utf-8")
        return after

    return read


def given(pair: Path) -> tuple[str, str]:
    """The pass of a file, and the text of the graph before."""
    spec, _, text = pair.read_text(encoding="utf-8").removeprefix("# ").partition("\n")
    return spec, text.partition(AFTER)[0]


@every_pair
def test_a_pass_makes_of_a_graph_what_its_file_says(
    pair: Path, expected: Callable[[Path, str], str]
) -> None:
    spec, before = given(pair)
    (step,) = Pipeline.parse(spec).passes
    found = show(check_on(step, parse(before)), Tensor.spelled)
    assert found == expected(pair, found)


@every_pair
def test_a_pair_lies_in_the_folder_of_its_pass(pair: Path) -> None:
    assert given(pair)[0].partition("{")[0] == pair.parent.name


def test_every_pass_has_pairs_and_every_golden_file_is_one() -> None:
    ours = {n for n, kind in available().items() if kind.__module__.startswith("redir.passes.")}
    assert {pair.parent.name for pair in PAIRS} == ours
    assert {path for path in FOLDER.rglob("*") if path.is_file()} == set(PAIRS)
