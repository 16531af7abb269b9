"""Steps that only the next one reads stand in its text, and all runs in the order it did."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from redir.backends.torch.emit.flow import Step
from redir.backends.torch.emit.text import value_mark, with_values
from redir.backends.torch.nesting import nested


def steps(*texts: str, outputs: tuple[int, ...] = (9,)) -> list[str]:
    """What is left of steps; a digit stands for a value, and each step makes the one it names."""
    made = []
    for text in texts:
        target, _, right = text.partition(" = ")
        marked = "".join(value_mark(int(c)) if c.isdigit() else c for c in right)
        made.append(Step((), value_mark(int(target)), marked))
    left = nested(made, outputs, 0)
    return [with_values(f"{s.targets} = {s.text}", str) for s in left]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["1 = f(0)", "9 = g(1)"], ["9 = g(f(0))"]),
        (["1 = f(0)", "2 = g(0)", "9 = h(1, 2)"], ["9 = h(f(0), g(0))"]),
        (["1 = 0.a()", "9 = 1.b()"], ["9 = 0.a().b()"]),
        (["1 = 0 + 0", "9 = f(1)"], ["9 = f(0 + 0)"]),
        (["1 = f(0)", "9 = 1 + 0"], ["9 = f(0) + 0"]),
        (["1 = x[:, 0]", "9 = 1[0:]"], ["9 = x[:, 0][0:]"]),
    ],
)
def test_what_the_next_step_alone_reads_is_nested(given: list[str], left: list[str]) -> None:
    assert steps(*given) == left


@pytest.mark.parametrize(
    "given",
    [
        ["1 = f(0)", "9 = g(1, 1)"],  # read twice
        ["1 = f(0)", "9 = g(1) + 1"],
        ["2 = f(0)", "1 = f(0)", "9 = g(1, 2)"],  # would run in another order
        ["1 = 0 + 0", "9 = 1 * 0"],  # needs brackets
        ["1 = 0 + 0", "9 = 1.a()"],
        ["1 = f(0)", "9 = [1 for x in 0]"],  # would run again and again
        ["1 = -0", "9 = 1.a()"],
    ],
)
def test_other_steps_stay(given: list[str]) -> None:
    assert steps(*given)[0] == given[0]


def test_an_output_keeps_its_step() -> None:
    assert steps("1 = f(0)", "9 = g(1)", outputs=(9, 1)) == ["1 = f(0)", "9 = g(1)"]


def test_lines_do_not_grow_without_end() -> None:
    assert len(steps(*(f"{k + 1} = function({k})" for k in range(8)), "9 = function(8)")) > 1


def test_two_cuts_of_different_axes_are_one() -> None:
    left = nested(
        [
            Step((), value_mark(1), f"{value_mark(0)}[:, 0:3]"),
            Step((), value_mark(2), f"{value_mark(1)}[:, :, 1:4]"),
        ],
        [2],
        0,
    )
    assert [s.text for s in left] == [f"{value_mark(0)}[:, 0:3, 1:4]"]
