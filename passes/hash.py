"""Bring the weights of each layer to the peaks of their density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from redir import ops
from redir.density import RULES, bandwidth_of, cells, density
from redir.errors import BadPipeline
from redir.guarantees import CONSTANTS_ONLY, SAME_INTERFACE, Guarantee, constants
from redir.ir import Graph, Value
from redir.pipeline import Pass
from redir.rewrite import map_constants
from redir.tensor import Array, Tensor

_WEIGHTS = (ops.Conv, ops.ConvTranspose, ops.Gemm, ops.MatMul)
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def hashed(weights: Array, bandwidth: float | str = 0.05, contrast: float = 0.0) -> Array:
    """``weights`` (any shape) with each value moved to the peak of its cell; exact zeros stay.

    The density of the non-zero weights is estimated with a Gaussian kernel; its local maxima M_k
    are the new values and the minima m_k between them the borders: every w in [m_k, m_k+1)
    becomes M_k (RED, Yvinec et al., NeurIPS 2021). Left as they are: fewer than two distinct
    values, weights that are not finite, and weights so far apart that the density cannot be put
    on a grid.
    """
    flat = weights.astype(np.float64).reshape(-1)
    some = flat[flat != 0]
    usable = some.size > 1 and bool(np.isfinite(some).all())
    width = bandwidth_of(some, bandwidth) if usable else 0.0
    curve = density(some, width) if width > 0 else None
    if curve is None:
        return weights
    found = cells(curve, contrast)
    moved = np.where(flat == 0, 0.0, found.centres[found.index(flat)])
    return moved.astype(weights.dtype).reshape(weights.shape)


def _distinct(before: Graph, after: Graph) -> str | None:
    for old, new in zip(constants(before), constants(after), strict=True):
        many, few = (np.unique(t.array) for t in (old, new))
        if few.size > many.size:
            return f"{many.size} distinct values became {few.size}"
        if not np.array_equal(old.array == 0, new.array == 0) and not np.all(
            new.array[old.array == 0] == 0
        ):
            return "a weight that was 0 is not any more"
    return None


def _monotone(before: Graph, after: Graph) -> str | None:
    """Refute that hashing is a function of the value, and one that keeps the order."""
    for old, new in zip(constants(before), constants(after), strict=True):
        if old.array.dtype.kind == "f" and old.array.size:
            order = np.argsort(old.array, axis=None, kind="stable")
            a, b = old.array.reshape(-1)[order], new.array.reshape(-1)[order]
            gaps, steps = np.diff(a), np.diff(b.astype(np.float64))
            nonzero = (a[:-1] != 0) & (a[1:] != 0)
            if np.any((steps < 0) & nonzero) or np.any((gaps == 0) & (steps != 0)):
                return "equal weights came apart or changed their order"
    return None


@dataclass(frozen=True)
class Hash(Pass):
    """Adaptive, data-free scalar hashing: few distinct values in each layer.

    ``bandwidth`` is a multiple of Silverman's rule, or one of the rules silverman, scott and
    median-gap; ``contrast`` drops a peak that stands out by less than that share of the highest.
    Moves the constant weights of Conv, ConvTranspose, Gemm and MatMul, a shared one once.
    """

    bandwidth: float | str = 0.05
    contrast: float = 0.0
    guarantees: ClassVar[tuple[Guarantee, ...]] = (
        SAME_INTERFACE,
        CONSTANTS_ONLY,
        Guarantee("no more distinct values, zeros stay", _distinct),
        Guarantee("equal weights stay equal, in order", _monotone),
    )

    def __post_init__(self) -> None:
        """Refuse a bandwidth that is no number above 0 and no rule, and a negative contrast."""
        if isinstance(self.bandwidth, str) and self.bandwidth not in RULES:
            raise BadPipeline(
                f"hash: bandwidth {self.bandwidth!r} is no number and none of {', '.join(RULES)}"
            )
        if not isinstance(self.bandwidth, str) and not 0 < self.bandwidth < np.inf:
            raise BadPipeline(f"hash: bandwidth must be above 0, not {self.bandwidth}")
        if not 0 <= self.contrast < 1:
            raise BadPipeline(f"hash: contrast must be at least 0 and below 1, not {self.contrast}")

    def run(self, graph: Graph) -> Graph:
        """Hash each weight tensor on its own."""
        weights = {v for n in graph.nodes if n.op in _WEIGHTS for v in n.inputs[1:2]}

        def moved(value: Value, tensor: Tensor) -> Tensor | None:
            if value not in weights or tensor.array.dtype.name not in _FLOATS:
                return None
            new = Tensor.take(hashed(tensor.array, self.bandwidth, self.contrast))
            return None if new == tensor else new

        return map_constants(graph, moved)
