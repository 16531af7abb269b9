"""Drawings: where boxes and wires lie on a page, and which colours they have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
import pytest

from redir.app.svg_colours import (
    COLOURS,
    FILL,
    INK,
    LINE,
    NIGHT_FILL,
    NIGHT_LINE,
    numbers,
    shade,
    style,
)
from redir.app.svg_layout import Wire, placed
from redir.app.svg_rows import BOX, Page, page
from redir.ir.tensor import Array

CHAIN = list(range(20))
STRAIGHT = [Wire(n, (n + 1,)) for n in CHAIN[:-1]]
Place = tuple[int, int, int, int]  # from x, y to x, y


def random_page(seed: int, count: int = 40) -> tuple[Page[int], list[Wire[int]]]:
    """Boxes each of which is read by up to three of the later ones."""
    rng = np.random.default_rng(seed)
    wires = []
    for box in range(count - 1):
        near = box + 1 + rng.integers(0, min(12, count - 1 - box), 3)
        wires.append(Wire(box, tuple(sorted({box + 1, *map(int, near)}))))
    boxes = range(count)
    return page(placed(boxes, wires), wires), wires


def straight(path: str) -> Iterator[Place]:
    """The straight parts of a path, but for what lies in the gaps between columns."""
    x = y = 0
    for kind, text in re.findall(r"([MHVC])([^MHVC]*)", path):
        ends = [int(n) for n in re.findall(r"\d+", text)]
        to = {"H": (ends[0], y), "V": (x, ends[0])}.get(kind, (*ends, 0, 0)[-4:-2])
        if kind in "HV":
            yield min(x, to[0]), min(y, to[1]), max(x, to[0]), max(y, to[1])
        x, y = to


def meet(one: Place, other: Place) -> bool:
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in range(2))


def box_at(sheet: Page[int], box: int) -> Place:
    x, y = sheet.corner(box)
    return x, y, x + BOX[0], y + BOX[1]


def test_a_chain_is_wrapped_into_rows_of_equal_length() -> None:
    sheet = page(placed(CHAIN, STRAIGHT), STRAIGHT)
    corners = [sheet.corner(box) for box in CHAIN]
    assert [x for x, _ in corners[:5]] == [x for x, _ in corners[5:10]]
    assert [len({y for _, y in corners[n : n + 5]}) for n in range(0, 20, 5)] == [1] * 4
    assert sorted({y for _, y in corners}) == [corners[n][1] for n in range(0, 20, 5)]
    assert sheet.size[0] <= 1200


def test_what_fits_into_a_row_stays_in_one() -> None:
    wires = STRAIGHT[:5]
    sheet = page(placed(CHAIN[:6], wires), wires)
    assert len(sheet.rows) == 1
    assert sheet.corner(0) == (0, 0)
    assert sheet.size[0] == sheet.corner(5)[0] + BOX[0]


@pytest.mark.parametrize("seed", range(6))
def test_nothing_lies_on_a_box(seed: int) -> None:
    sheet, wires = random_page(seed)
    boxes = [box_at(sheet, box) for box in range(40)]
    assert not any(meet(one, other) for one, other in combinations(boxes, 2))
    paths = [sheet.path(wire, box) for wire in wires for box in wire.targets]
    parts = [(x - 1, y - 1, to + 1, low + 1) for p in paths for x, y, to, low in straight(p)]
    assert not any(meet(part, box) for part in parts for box in map(shrunk, boxes))


def shrunk(box: Place) -> Place:
    """A box without its edge, where wires begin and end."""
    return box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2


@pytest.mark.parametrize("seed", range(6))
def test_no_wire_lies_on_another(seed: int) -> None:
    sheet, wires = random_page(seed)
    parts = [
        (wire.source, (x, y, to + (y == low), low + (x == to)))
        for wire in wires
        for box in wire.targets
        for x, y, to, low in straight(sheet.path(wire, box))
    ]
    flat = [part for part in parts if part[1][3] - part[1][1] == 0]
    tall = [part for part in parts if part[1][2] - part[1][0] == 0]
    shared = [
        (one, other)
        for kind, along in ((flat, 0), (tall, 1))
        for one, other in combinations(kind, 2)
        if one[0] != other[0]
        and one[1][1 - along] == other[1][1 - along]
        and one[1][along] < other[1][along + 2]
        and other[1][along] < one[1][along + 2]
    ]
    assert shared == []


@pytest.mark.parametrize("seed", range(6))
def test_all_lies_on_the_page(seed: int) -> None:
    sheet, wires = random_page(seed)
    width, height = sheet.size
    paths = [sheet.path(wire, box) for wire in wires for box in wire.targets]
    parts = [*map(shrunk, (box_at(sheet, box) for box in range(40)))]
    parts += [part for path in paths for part in straight(path)]
    assert min(min(part) for part in parts) >= 0
    assert max(part[2] for part in parts) <= width
    assert max(part[3] for part in parts) <= height


# The colours


def test_families_that_touch_or_follow_each_other_have_other_colours() -> None:
    touching = [(1, place) for place in range(12)]
    found = numbers(12, touching)
    assert all(found[place] != found[1] for place in range(12) if place != 1)
    assert all(one != other for one, other in pairwise(found))


def test_families_that_touch_more_than_there_are_colours_have_one() -> None:
    assert set(numbers(20, combinations(range(20), 2))) == set(range(1, len(COLOURS)))


def light(colour: str) -> Array:
    """The linear parts of red, green and blue."""
    parts = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    linear: Array = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear


def contrast(one: str, other: str) -> float:
    """That of the guidelines for accessible contents (WCAG)."""
    low, high = sorted(float(light(each) @ [0.2126, 0.7152, 0.0722]) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


SIGHT = {  # what becomes of red, green and blue (Machado, Oliveira and Fernandes, TVCG 2009)
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def seen(colour: str, kind: str) -> Array:
    """A colour in CIELAB, as an eye of that kind sees it."""
    linear = np.clip(np.array(SIGHT[kind]) @ light(colour), 0, 1)
    white = np.array([0.9505, 1, 1.089])
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(xyz @ linear / white)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", SIGHT)
@pytest.mark.parametrize("share", [FILL, NIGHT_FILL])
def test_every_eye_tells_the_colours_apart(kind: str, share: float) -> None:
    found = [seen(shade(number, share), kind) for number in range(1, len(COLOURS))]
    assert min(np.linalg.norm(one - other) for one, other in combinations(found, 2)) > 10


@pytest.mark.parametrize("number", range(len(COLOURS)))
def test_texts_and_wires_stand_out(number: int) -> None:
    night = re.search(r"\.paper\{fill:(#\w+)\}", style())
    assert night is not None
    assert contrast(shade(number, FILL), INK) >= 4.5
    assert contrast(shade(number, NIGHT_FILL), INK) >= 4.5
    assert contrast(shade(number, LINE), "#ffffff") >= 3
    assert contrast(shade(number, NIGHT_LINE), night[1]) >= 3


def test_a_picture_is_dark_where_the_browser_is() -> None:
    assert "@media(prefers-color-scheme:dark){" in style()
    assert all(f".f{n}{{" in style() and f".w{n}{{" in style() for n in range(len(COLOURS)))
