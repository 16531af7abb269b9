"""Separate convolutions into depthwise and pointwise ones of uneven rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from math import prod
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from redir import ops
from redir.check.guarantees import SAME_INTERFACE, SAME_OUTPUTS, Guarantee
from redir.cost.forms import Form, improved, no_dearer, ratios
from redir.cost.models import CostModel, cost_model
from redir.errors import BadPipeline
from redir.ir import Graph, Node
from redir.ir.tensor import epsilon
from redir.layers.linear import CONVS, Linear, linear
from redir.passes.uneven_depthwise.basis import Basis, Separation, separated, slice_ranks, truncated
from redir.passes.uneven_depthwise.figures import draw_ranks
from redir.passes.uneven_depthwise.forms import separations
from redir.passes.uneven_depthwise.weight_error import layer_errors
from redir.pipeline import Pass

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROUNDING = 4  # times the precision of a type that what is rounded to it may be off


@dataclass(frozen=True)
class UnevenDepthwise(Pass):
    """Apply as few kernels to each input channel as its outputs are made from, then add up.

    y_o = sum_i w_oi * x_i is sum_i sum_j c_oij (b_ij * x_i) with r_i basis kernels b_ij, as many as
    channel i needs: a depthwise convolution and a pointwise one. ``basis`` says what makes the
    kernels of a channel: those that are ``distinct``, one for all ``multiples`` of it, or as many
    as their ``rank``. ``error`` is what the weights of a layer may be off, relative and in their
    sum of squares: the basis kernels of the smallest singular values are left out. ``cost`` is
    what a layer's new form must pay in: macs, multiplications, bytes, latency, or a model of costs.
    """

    basis: Literal["distinct", "multiples", "rank"] = "rank"
    error: float = 0.0
    cost: str | CostModel = "macs"

    def __post_init__(self) -> None:
        """Refuse an unknown basis or cost, and an error that is not from 0 to 1."""
        _ = self._model
        if self.basis not in get_args(Basis):
            known = ", ".join(get_args(Basis))
            raise BadPipeline(f"uneven-depthwise: basis {self.basis!r} is none of {known}")
        if not 0 <= self.error < 1:
            raise BadPipeline(
                f"uneven-depthwise: error must be at least 0 and below 1, not {self.error}"
            )
        if self.error and self.basis != "rank":
            raise BadPipeline(f"uneven-depthwise: error is for basis=rank, not {self.basis}")

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """The same outputs without an ``error``, else weights that are within it."""
        kept = Guarantee(f"weights within {self.error}", self._far) if self.error else SAME_OUTPUTS
        paid = (no_dearer(self._model),) if self._model.by_parts else ()
        return (SAME_INTERFACE, kept, *paid)

    def run(self, graph: Graph) -> Graph:
        """Bring each layer into its cheapest form."""
        return improved(graph, cache(partial(self._forms, graph)), self._model)

    def figures(self, before: Graph, after: Graph) -> Mapping[str, Figure]:
        """The ranks of the channels of each layer."""
        del after
        return {"ranks": draw_ranks(before, self.error)}

    def explain(self, graph: Graph) -> Iterator[str]:
        """The first condition that each convolution fails."""
        after = self.run(graph)
        for node in graph.nodes:
            if node.op in CONVS and node.inputs[1] in after.uses:
                yield f"{node}: {self._why(graph, node)}"

    def _why(self, graph: Graph, node: Node) -> str:
        """Why a convolution stays as it is."""
        layer = _layer(graph, node)
        if isinstance(layer, str):
            return layer
        parts = self._parts(layer)
        if parts is None:
            return "no channel has fewer kernels than it has outputs or places"
        least = min(ratios(graph, node, separations(layer, parts), self._model))
        return f"its cheapest form has {least:.3g} of its {self._model}"

    @cached_property
    def _model(self) -> CostModel:
        return cost_model(self.cost)

    def _forms(self, graph: Graph, node: Node) -> Sequence[Form]:
        layer = _layer(graph, node) if node.op in CONVS else ""
        parts = None if isinstance(layer, str) else self._parts(layer)
        return [] if isinstance(layer, str) or parts is None else separations(layer, parts)

    def _parts(self, layer: Linear) -> Separation | None:
        """The kernels to apply, if they are fewer than there are for some channel."""
        slices, dtype = layer.kernels.astype(np.float64), layer.array.dtype
        if self.error:
            return truncated(slices, self.error, dtype)
        outputs, places = slices.shape[1:]
        if self.basis == "rank" and np.all(slice_ranks(slices, dtype) == min(outputs, places)):
            return None
        parts = separated(slices, self.basis, dtype)
        return None if parts.channels.size == len(slices) * outputs else parts

    def _far(self, before: Graph, after: Graph) -> str | None:
        for node, error in layer_errors(before, after):
            rounding = _ROUNDING * epsilon(node.inputs[1].type.dtype)
            if not error <= self.error + rounding:
                return f"the weights of {node} are off by {error:.3g}"
        return None


def _layer(graph: Graph, node: Node) -> Linear | str:
    """A convolution as a layer, or why it cannot be separated."""
    layer = linear(node)
    if isinstance(layer, str):
        return layer
    if layer.x.type.size(1) is None:
        return "the number of its channels is not known"
    if prod(layer.kernel) == 1:
        return "its kernels have one place: it is pointwise"
    if not np.isfinite(layer.kernels.astype(np.float64)).all():
        return "its weights are not finite"
    if not np.any(layer.kernels):
        return "its weights are all zero"
    if layer.groups == layer.channels and _feeds_pointwise(graph, node):
        return "it is depthwise, with a pointwise convolution behind it"
    return layer


def _feeds_pointwise(graph: Graph, node: Node) -> bool:
    """Whether only pointwise convolutions read its result, a Concat between them or not."""
    readers = graph.readers.get(node.outputs[0], ())
    return bool(readers) and all(r.op == ops.Concat or _is_pointwise(r) for r in readers)


def _is_pointwise(node: Node) -> bool:
    return node.op == ops.Conv and prod((node.inputs[1].type.static or (0, 0, 0))[2:]) == 1
