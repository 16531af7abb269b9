"""Sizes that are open, and what is computed of them: symbols that say how."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from redir.ir.tensor import Dim, Shape

_PRODUCT = re.compile(r"\w+(\*\w+)*", re.ASCII)


def least(size: int, symbol: str) -> str:
    """The smaller of a size and one that is open."""
    return f"min({size}, {symbol})"


def broadcast(shapes: Iterable[Shape]) -> Shape:
    """The sizes of what is broadcast, aligned at the right, as far as one can tell."""
    rows = [shape[::-1] for shape in shapes]
    rank = max(map(len, rows), default=0)
    columns = ([row[i] if i < len(row) else 1 for row in rows] for i in range(rank))
    return tuple(_together(column) for column in columns)[::-1]


def _together(dims: Iterable[Dim]) -> Dim:
    """The size that all have which are not 1."""
    wide = set(dims) - {1}
    large = {dim for dim in wide if isinstance(dim, int)}
    if large or len(wide) < 2:  # noqa: PLR2004 - one size alone
        return next(iter(large or wide), 1)
    cut = {dim for dim in wide if isinstance(dim, str) and _is_cut(dim, wide)}
    (found, *more) = wide - cut
    return None if more else found


def _is_cut(symbol: str, others: set[Dim]) -> bool:
    """Whether it is the smaller of a size and another one: as large where they are broadcast."""
    head, _, rest = symbol.partition(", ")
    return head.startswith("min(") and rest.removesuffix(")") in others


@dataclass(frozen=True)
class Product:
    """A number times symbols."""

    number: int
    symbols: tuple[str, ...] = ()

    def __truediv__(self, other: Product) -> Product | None:
        """The quotient, if it is a product."""
        left = Counter(self.symbols)
        left.subtract(other.symbols)
        if min(left.values(), default=0) < 0 or not other.number or self.number % other.number:
            return None
        return Product(self.number // other.number, tuple(sorted(left.elements())))

    @property
    def dim(self) -> Dim:
        """It as a size."""
        number = [] if self.number == 1 and self.symbols else [str(self.number)]
        return "*".join([*number, *self.symbols]) if self.symbols else self.number


def product(dims: Iterable[Dim]) -> Product | None:
    """The product of sizes; None where one is not known."""
    number, symbols = 1, list[str]()
    for dim in dims:
        if dim is None:
            return None
        plain = isinstance(dim, str) and _PRODUCT.fullmatch(dim)
        for part in str(dim).split("*") if plain or isinstance(dim, int) else [str(dim)]:
            if part.isdecimal():
                number *= int(part)
            else:
                symbols.append(part)
    return Product(number, tuple(sorted(symbols)))
