"""Whole numbers without a sign, with which PyTorch computes only where they are bytes."""

from __future__ import annotations

import numpy as np

from redir.backends.torch.emit.literals import Ints, torch_dtype
from redir.backends.torch.emit.site import Emit, Result, Site
from redir.ir import Value
from redir.ir.tensor import DType

INT64: DType = np.dtype(np.int64)
_UNSIGNED = frozenset(map(np.dtype, (np.uint16, np.uint32, np.uint64)))


class _Wide(Site):
    """A node whose operands without a sign are int64, which wraps as they do."""

    def kind(self, place: int = 0) -> DType:
        """The element type of an operand as it is given."""
        found = super().kind(place)
        return INT64 if found in _UNSIGNED else found

    def tensor(self, value: Value, *, weight: bool = False, place: int = 0) -> str:
        """A value as a tensor, in int64 where it has no sign."""
        text = super().tensor(value, weight=weight, place=place)
        unsigned = self.scene.type(value)[1] in _UNSIGNED
        return self.let(f"{text}.to(torch.int64)") if unsigned else text


def widened(emit: Emit) -> Emit:
    """The entry for an operator, which computes with int64 where torch cannot without a sign."""

    def wide(site: Site) -> Result:
        types = [site.scene.type(v)[1] for v in (*site.node.inputs, *site.node.outputs)]
        if not _UNSIGNED & set(types):
            return emit(site)
        inner = _Wide(site.scene, site.node)
        found = emit(inner)
        if isinstance(found, str) and site.node.arity > 1:
            found = inner.lets(found, site.node.arity)
        many = [found] if isinstance(found, str | Ints | Value) else list(found)
        ends = types[len(site.node.inputs) :]
        return [
            f"({each}).to({torch_dtype(kind)})"
            if isinstance(each, str) and kind in _UNSIGNED
            else each
            for each, kind in zip(many, ends, strict=False)
        ]

    return wide
