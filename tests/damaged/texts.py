"""Damage to the textual form: to words, to lines, and to the bytes."""

from __future__ import annotations

import random
import re

from tests.damaged.protos import NUMBERS, TEXTS, hit_bytes

_WORD = re.compile(r"[A-Za-z_]\w*|\d+|'[^'\n]*'|\S")


def damaged(seed: str, rng: random.Random) -> bytes:
    """A copy of a text with one to three faults, as bytes."""
    text = seed
    for _ in range(rng.randint(1, 3)):
        text = rng.choice((_word, _word, _word, _line, _line, _deep))(text, rng)
    data = text.encode(errors="surrogatepass")
    return hit_bytes(data, rng) if rng.random() < 0.2 else data


def _word(text: str, rng: random.Random) -> str:
    found = list(_WORD.finditer(text))
    if not found:
        return text
    word, other = rng.choice(found), rng.choice(found)
    new = rng.choice((str(rng.choice(NUMBERS)), other[0], "", repr(rng.choice(TEXTS)), "inf"))
    return text[: word.start()] + new + text[word.end() :]


def _line(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    if not lines:
        return text
    place = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(rng.randrange(len(lines)), lines[place])
        case 2:
            size = rng.choice((10**5, 2**31, 2**62))
            operator = rng.choice(("ConstantOfShape", "Expand", "Tile", "Range"))
            lines.insert(place, f"    big: int64[1] = Const(value=Tensor(int64[1], [{size}]))")
            lines.insert(place + 1, f"    huge: float32[...] = {operator}(big)")
        case _:
            lines[place] = "    " * rng.choice((0, 3, 200)) + lines[place].strip()
    return "\n".join(lines) + "\n"


def _deep(text: str, rng: random.Random) -> str:
    """Something nested in itself, as often as breaks a parser that calls itself."""
    depth = rng.choice((50, 150, 5000))
    found = list(_WORD.finditer(text))
    if not found:
        return text
    word = rng.choice(found)
    left, right = rng.choice(
        (("(", ")"), ("[", "]"), ("-", ""), ("{0:", "}"), ("f(", ")"), ("x.", ""))
    )
    if rng.random() < 0.2:
        bodies = [f"{'    ' * k}def b{k}(x: float32[2]):\n" for k in range(min(depth, 99))]
        return "".join(bodies) + text
    return text[: word.start()] + left * depth + word[0] + right * depth + text[word.end() :]
