"""Remove the channels that nothing reads, and those that always hold one same number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from redir import ops
from redir.channels.constants import levels, reads_border
from redir.channels.coupling import Coupling
from redir.channels.nonfinite import nonfinite
from redir.channels.removal import spared, without
from redir.channels.steps import stepped
from redir.check.guarantees import (
    NO_GROWTH,
    NO_MORE_PARAMETERS,
    SAME_INTERFACE,
    SAME_OUTPUTS,
    stored,
)
from redir.cost.forms import unless_dearer
from redir.cost.models import CostModel, cost_model
from redir.errors import BadPipeline
from redir.ir import Graph, Link, Node, Port, Value
from redir.ir.rewriter import Outputs, settled, transform
from redir.ir.tensor import Array, Tensor
from redir.layers.linear import Linear, linear
from redir.ops import is_absent, tensor_of
from redir.pipeline import Pass

Levels: TypeAlias = Mapping[Port, Array]
Odd: TypeAlias = frozenset[Value]


@dataclass(frozen=True)
class EliminateDeadChannels(Pass):
    """Channels that every reader multiplies by zero, or that always hold one same number, go.

    What a reader makes of a number other than zero is added to its bias, in float64 and rounded
    once; so the reader must be a Conv that reads no border, a Gemm, or a MatMul before an Add, with
    constant weights. Groups that reach a graph input or output, or an operator that mixes
    channels, are left alone, and so is the last channel of an axis. So are channels that a constant
    makes infinite or NaN, which a zero does not silence; any other activation is taken for finite.

    Nothing is removed where the model would then cost more under ``cost``: macs, multiplications,
    bytes, latency, or a cost model of another package. Widths of large convolutions that are
    multiples of ``step`` stay such, unless half of the channels go: others may be slower.
    """

    step: int = 1
    cost: str | CostModel = "macs"

    def __post_init__(self) -> None:
        """Refuse a step that is none, and a cost model that there is not."""
        cost_model(self.cost)
        if self.step < 1:
            raise BadPipeline(f"eliminate-dead-channels: step is 1 or more: {self.step}")

    guarantees = (SAME_INTERFACE, SAME_OUTPUTS, NO_GROWTH, NO_MORE_PARAMETERS)

    def run(self, graph: Graph) -> Graph:
        """Remove until nothing is dead: a reader that goes may have been the last one."""
        after = settled(graph, partial(_sweep, step=self.step))
        return unless_dearer(graph, after, self.cost) if stored(after) <= stored(graph) else graph

    def explain(self, graph: Graph) -> Iterator[str]:
        """Each reader that cannot take the constants that it reads into its bias."""
        coupling = graph.analysis(Coupling)
        held, odd = levels(coupling), graph.analysis(nonfinite)
        for node, link in _sums(coupling):
            if not odd.isdisjoint((link.a[0], link.b[0])) and _silent(held, link):
                yield f"{node} multiplies by zero what may be infinite, which gives NaN"
            if _constant(held, odd, link).any():
                why = _obstacle(coupling, held, node, link)
                if why is not None:
                    yield f"{node} reads channels that are constant, but {why}"


def _sums(coupling: Coupling) -> list[tuple[Node, Link]]:
    """The links of what an operator adds up."""
    return [(node, link) for node, link in coupling.links if link.kind == "summed"]


def _sweep(graph: Graph, step: int) -> Graph:
    """Take constants into biases, so that nothing reads them; where there are none, remove."""
    coupling = graph.analysis(Coupling)
    held, odd, alive = levels(coupling), graph.analysis(nonfinite), set[int]()
    for node, link in _sums(coupling):
        groups, used = coupling.group(link.a), _used(held, odd, link)
        constant = _constant(held, odd, link)
        if constant.any() and _obstacle(coupling, held, node, link) is None:
            used &= ~constant
        alive.update(groups[used].tolist())
    dead = spared(coupling, coupling.groups_of(coupling.ports) - alive)
    gone = stepped(coupling, dead, step)
    folded = _folded(coupling, (held, odd), gone)
    return without(coupling, gone) if folded is graph else folded


def _silent(held: Levels, link: Link) -> bool:
    """Whether channels of a sum meet a zero."""
    return bool(np.any((held[link.a] == 0) | (held[link.b][link.index] == 0)))


def _used(held: Levels, odd: Odd, link: Link) -> Array:
    """Which channels of a sum may add anything to it."""
    zero = [held[link.a] == 0, held[link.b][link.index] == 0]
    finite = [port[0] not in odd for port in (link.a, link.b)]
    used: Array = ~(zero[0] & finite[1] | zero[1] & finite[0])
    return used


def _constant(held: Levels, odd: Odd, link: Link) -> Array:
    """Which channels of a sum add to it, and hold one same number."""
    constant: Array = _used(held, odd, link) & ~np.isnan(held[link.a])
    return constant


def _obstacle(coupling: Coupling, held: Levels, node: Node, link: Link) -> str | None:
    """Why what ``node`` makes of constants cannot be added to its bias, if it cannot."""
    if link.b not in coupling.summed or link.a[0] is not node.inputs[0]:
        return "its weights are not constant"
    if link.b in coupling.apart:
        return str(coupling.apart[link.b])
    if node.op == ops.Conv and reads_border(node):
        return "it reads zeros around them"
    bias = _bias_of(coupling.graph, node)
    if bias is None:
        return "it has no bias, nor an Add of one behind it"
    made = _product(node, np.abs(_kernel(node)), np.abs(np.nan_to_num(held[link.a])))
    return _misfit(coupling.graph, bias, link.b[0], np.abs(made))


@dataclass(frozen=True)
class _Bias:
    """The operand ``place`` of ``node``, which is added to what a reader computes."""

    node: Node
    place: int

    @property
    def value(self) -> Value | None:
        """The operand, if it is given."""
        given = self.node.inputs[self.place : self.place + 1]
        return None if not given or is_absent(given[0]) else given[0]

    @property
    def array(self) -> Array:
        """What is added so far, zero where no constant is."""
        tensor = None if self.value is None else tensor_of(self.value)
        return np.zeros((), np.float64) if tensor is None else tensor.array


def _bias_of(graph: Graph, node: Node) -> _Bias | None:
    """Where a vector can be added to what ``node`` computes, if it can."""
    if node.op == ops.Conv:
        return _Bias(node, 2)
    if node.op == ops.Gemm:
        aligns = node.op.version >= 7  # noqa: PLR2004 - its bias broadcasts without being told
        return _Bias(node, 2) if aligns and node.attrs.get("beta", 1.0) else None
    y = node.outputs[0]
    if node.op == ops.MatMul and node.inputs[1].rank == 2 and graph.uses[y] == 1:  # noqa: PLR2004
        reader = next(iter(graph.readers.get(y, ())), None)
        if reader is not None and reader.op == ops.Add and reader.op.version >= 7:  # noqa: PLR2004
            return _Bias(reader, 1 - reader.inputs.index(y))
    return None


def _misfit(graph: Graph, bias: _Bias, weight: Value, most: Array) -> str | None:
    """Why a vector no larger than ``most`` cannot be added to a bias, if it cannot.

    Of the weight goes as much at least as the vector holds, if nothing else reads it.
    """
    if bias.value is not None and tensor_of(bias.value) is None:
        return "its bias is not constant"
    total = np.abs(bias.array) + most
    if not np.all(total <= np.finfo(weight.type.dtype).max):
        return "its bias would be too large"
    freed = bias.array.size if bias.value is not None and graph.uses[bias.value] == 1 else 0
    if total.size - freed > (most.size if graph.uses[weight] == 1 else 0):
        return "its bias would cost more than goes"
    return None


def _kernel(node: Node) -> Array:
    """The weights that each channel meets, added up: (groups, outputs, channels of a group)."""
    layer = linear(node)
    assert isinstance(layer, Linear)
    kernel: Array = layer.weight.sum(3, dtype=np.float64)
    return kernel


def _product(node: Node, kernel: Array, numbers: Array) -> Array:
    """What ``node`` makes of channels that hold ``numbers``, as a part of its bias: (outputs,)."""
    sums: Array = (kernel * numbers.reshape(len(kernel), 1, -1)).sum(2).reshape(-1)
    factor: float = node.attrs.get("alpha", 1.0) / node.attrs.get("beta", 1.0)
    return sums * factor


def _folded(coupling: Coupling, known: tuple[Levels, Odd], gone: Collection[int]) -> Graph:
    """The graph in which the constants among the channels of ``gone`` are in biases, unread."""
    held, odd = known
    lost_of = coupling.among(gone)
    sums, unread = dict[Node, tuple[_Bias, Array]](), dict[Value, tuple[int, Array]]()
    for node, link in _sums(coupling):
        folded = _constant(held, odd, link) & lost_of(link.a)
        if folded.any():
            bias = _bias_of(coupling.graph, node)
            assert bias is not None
            made = _product(node, _kernel(node), np.where(folded, held[link.a], 0.0))
            sums[bias.node] = bias, made
            unread[link.b[0]] = link.b[1], lost_of(link.b)

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if node in sums:
            bias, made = sums[node]
            return _with_bias(coupling.graph, bias, made, inputs).outputs
        if node.outputs[0] in unread:
            return _silenced(node, *unread[node.outputs[0]])
        return None

    return transform(coupling.graph, visit)


def _with_bias(graph: Graph, bias: _Bias, made: Array, inputs: tuple[Value, ...]) -> Node:
    """The node of a bias on ``inputs`` with ``made`` added, rounded once."""
    dtype, old = bias.node.outputs[0].type.dtype, bias.value
    named = old if old is not None and graph.uses[old] == 1 else None
    new = ops.constant(np.asarray(bias.array + made).astype(dtype), named)
    return bias.node.on((*inputs[: bias.place], new, *inputs[bias.place + 1 :]))


def _silenced(const: Node, axis: int, lost: Array) -> Value:
    """A constant with zeros for the channels ``lost`` of ``axis``."""
    tensor = tensor_of(const.outputs[0])
    assert tensor is not None
    array = tensor.array.copy()
    np.moveaxis(array, axis, 0)[lost] = 0
    return const.on((), value=Tensor.take(array)).outputs[0]
