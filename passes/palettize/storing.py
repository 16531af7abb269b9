"""How tensors lie in a file as places in a palette, and the nodes that rebuild them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from redir import ops
from redir.ir import Value
from redir.ir.tensor import Array, Tensor
from redir.layers.palette import WIDTHS, opened, packed

_PART = 64  # bytes that a file spends on a node, or on a tensor beside its numbers


def stored_bytes(tensor: Tensor, bits: int, count: int) -> int:
    """About what a file spends on ``tensor`` as places in a palette of ``count`` values.

    What is spent once for all tensors of that width is in ``_table``.
    """
    size, parts = tensor.size, 4
    if bits < 8:  # noqa: PLR2004 - a byte holds several places, and a palette is filled up
        count, parts = 2**bits, 7 + 4 * (size * bits % 8 > 0)
    return -(-size * bits // 8) + count * tensor.type.dtype.itemsize + parts * _PART


def _table(bits: int) -> int:
    return 0 if bits == 8 else 256 * (8 // bits) + 2 * _PART  # noqa: PLR2004


def plan(held: Mapping[Value, Tensor], counts: Mapping[Value, int]) -> dict[Value, int]:
    """The width for each tensor that makes the file least, none for one that stays as it is.

    ``counts`` are the distinct values of each. A width below a byte needs a table, once for all
    that use it: each set of them is tried.
    """
    sets = [(*some, 8) for k in range(len(WIDTHS)) for some in combinations(WIDTHS[:-1], k)]
    plans = [_chosen(held, counts, some) for some in sets]
    sizes = [
        sum(map(_table, some))
        + sum(stored_bytes(held[v], b, counts[v]) - held[v].nbytes for v, b in plan.items())
        for plan, some in zip(plans, sets, strict=True)
    ]
    return plans[int(np.argmin(sizes))]


def _chosen(
    held: Mapping[Value, Tensor], counts: Mapping[Value, int], widths: tuple[int, ...]
) -> dict[Value, int]:
    found = {}
    for value, tensor in held.items():
        sizes = {b: stored_bytes(tensor, b, counts[value]) for b in widths if counts[value] <= 2**b}
        best = min(sizes, key=lambda b: sizes[b], default=None)
        if best is not None and sizes[best] < tensor.nbytes:
            found[value] = best
    return found


@dataclass(eq=False)
class Writer:
    """Makes the nodes in the model's operator set; a table serves all tensors of its width."""

    version: int
    tables: dict[int, Value] = field(default_factory=dict)
    shapes: dict[tuple[int, ...], Value] = field(default_factory=dict)

    def written(self, shape: tuple[int, ...], values: Array, places: Array, bits: int) -> Value:
        """The tensor, rebuilt from its palette."""
        if bits == 8:  # noqa: PLR2004
            whole = self._index(places.astype(np.uint8).reshape(shape))
            return self._op("Gather", ops.constant(values), whole)
        palette = np.concatenate([values, np.repeat(values[:1], 2**bits - values.size)])
        if bits not in self.tables:
            self.tables[bits] = self._index(opened(bits))
        met = self._op("Gather", ops.constant(palette), self.tables[bits])  # by each of the bytes
        found = self._op("Gather", met, self._index(packed(places, bits)[None]))
        if places.size % (8 // bits):
            found = self._first(self._op("Reshape", found, self._sizes(-1)), places.size)
        return self._op("Reshape", found, self._sizes(*shape))

    def _index(self, places: Array) -> Value:
        return self._op("Cast", ops.constant(places), to=_INT32)

    def _sizes(self, *sizes: int) -> Value:
        return self.shapes.setdefault(sizes, ops.constant(np.array(sizes, np.int64)))

    def _first(self, x: Value, count: int) -> Value:
        if self.version < _SLICE_BY_OPERANDS:
            return self._op("Slice", x, starts=(0,), ends=(count,))
        return self._op("Slice", x, self._sizes(0), self._sizes(count))

    def _op(self, name: str, *inputs: Value, **attrs: int | tuple[int, ...]) -> Value:
        op = ops.lookup(name, self.version)
        assert op is not None
        return op(*inputs, **attrs)


_INT32 = 6  # as TensorProto numbers it
_SLICE_BY_OPERANDS = 10  # operator set
