"""Blocks that are alike are drawn once, and nothing that is not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from redir import ops
from redir.app.svg import drawing
from redir.app.svg_folding import Fold, Run
from redir.channels import families
from redir.ir import Graph, Value
from tests.helpers import const, placeholder


def chain(looks: str) -> Fold:
    """Boxes of which each reads the one before it."""
    return Fold(looks, [[n - 1] if n else [] for n in range(len(looks))])


@pytest.mark.parametrize(
    ("looks", "runs"),
    [
        ("sabcabcabct", [Run(1, 3, 3)]),
        ("sababab", [Run(1, 2, 3)]),
        ("sabab", []),  # too few to be worth it
        ("sabcxabct", []),
        ("sabcdabcdtefefef", [Run(1, 4, 2), Run(10, 2, 3)]),
        ("aaaaaaa", [Run(1, 2, 3)]),
    ],
)
def test_runs_of_blocks_are_found(looks: str, runs: list[Run]) -> None:
    assert chain(looks).runs == runs


def skipping(*more: tuple[int, int]) -> Fold:
    """Three blocks of three boxes behind one, each with a way around it, and ``more`` reads."""
    flat: list[list[int]] = [[]]
    for n in (1, 4, 7):
        flat += [[n - 1], [n], [n + 1, n - 1]]
    flat.append([9])
    for box, read in more:
        flat[box] = [*flat[box], read]
    return Fold("sabcabcabct", flat)


def test_ways_around_blocks_are_like_each_other() -> None:
    fold = skipping()
    assert fold.runs == [Run(1, 3, 3)]
    assert fold.hidden == set(range(4, 10))
    assert [*fold.stands_for[2]] == [2, 5, 8]


def test_what_all_blocks_read_is_no_difference() -> None:
    assert skipping((2, 0), (5, 0), (8, 0)).runs == [Run(1, 3, 3)]


@pytest.mark.parametrize("more", [(5, 0), (10, 3), (8, 3)])
def test_a_block_that_reads_or_is_read_otherwise_is_shown(more: tuple[int, int]) -> None:
    assert skipping(more).runs != [Run(1, 3, 3)]


def test_behind_a_run_its_last_block_is_read() -> None:
    fold = skipping()
    read_by = {(n, 0): [m for m in range(11) if n in fold.reads[m]] for n in range(11)}
    assert {n: fold.targets(n, 0, read_by) for n in (0, 1, 2, 3)} == {
        0: [1, 3],
        1: [2],
        2: [3],
        3: [10],
    }


def network(kernels: list[int], channels: int = 4) -> Graph:
    """Residual blocks, one behind the other."""
    rng = np.random.default_rng(0)

    def conv(x: Value, size: int) -> Value:
        weight = const(rng.normal(size=(channels, channels, size, size)))
        return ops.Conv(x, weight, pads=(size // 2,) * 4)

    x = first = placeholder("n", channels, 8, 8)
    for size in kernels:
        x = ops.Relu(ops.Add(x, conv(ops.Relu(conv(x, size)), size)))
    return Graph({"x": first}, {"y": ops.Softmax(conv(x, 1), axis=1)})


def drawn(graph: Graph) -> tuple[int, list[str]]:
    """How many boxes are drawn, and what is said of how often they are there."""
    text = drawing(graph, families.families(graph))
    return text.count('class="box"'), re.findall(r"&#215;(\d+)", text)


def test_blocks_of_a_network_are_drawn_once() -> None:
    assert drawn(network([3] * 7)) == (5 + 4, ["7"] * 5)


def test_blocks_of_other_kernels_are_not() -> None:
    assert drawn(network([3, 1] * 4)) == (2 * 5 + 4, ["4"] * 10)


def test_a_small_network_is_drawn_as_it_is() -> None:
    assert drawn(network([3] * 5)) == (5 * 5 + 4, [])


def test_a_box_names_all_that_it_stands_for() -> None:
    graph = network([3] * 7)
    text = drawing(graph, families.families(graph))
    assert "families 2, ..., 8: 4 ch." in text
    assert max(title.count("Add") for title in re.findall(r"<title>(.*?)</title>", text)) == 7
