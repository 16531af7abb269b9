"""How far a run is: who hears it, and what becomes of levels."""

from __future__ import annotations

import pytest

from redir.progress import Level, Levels, heard, progress


def loops() -> None:
    for _ in progress(range(2), "outer"):
        for inner in progress("abc", "inner"):
            if inner == "b":
                break


def test_the_whole_is_told_before_its_parts() -> None:
    told = list[Levels]()
    with heard(told.append):
        loops()
    outer = [(Level("outer", done, 2),) for done in range(2)]
    inner = [[(*level, Level("inner", done, 3)) for done in range(2)] for level in outer]
    assert told == [outer[0], *inner[0], outer[0], outer[1], *inner[1], outer[1], (), ()]


def test_an_error_ends_all_levels() -> None:
    def failing() -> None:
        for item in progress([0], "outer"):
            next(progress([1 / item], "inner"))

    told = list[Levels]()
    with pytest.raises(ZeroDivisionError), heard(told.append):
        failing()
    with heard(told.append):
        list(progress(range(1), "other"))
    assert (Level("other", 0, 1),) in told


def test_where_nobody_hears_items_are_items() -> None:
    assert list(progress([3, 1, 2], "numbers")) == [3, 1, 2]
