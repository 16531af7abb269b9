"""One view of every layer that is linear in its weights: Conv, ConvTranspose, Gemm and MatMul."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from redir import ops
from redir.ir import Graph, Node, Port, Value
from redir.ir.tensor import Array
from redir.ops import is_absent, tensor_of

CONVS = (ops.Conv, ops.ConvTranspose)
_MATRIX = 2  # axes
_BROADCASTING = 7  # the operator set from which an Add, and the bias of a Gemm, broadcasts untold


@dataclass(frozen=True, eq=False)
class Linear:
    """A layer that makes alpha * (weight x) + beta * bias of the operand ``x``.

    Operand ``place`` of ``node`` is the constant ``array`` of the weights. It has the outputs along
    its first axis and the inputs along its second, or ``turned`` the other way round; a kernel
    follows. The first of the two holds all ``groups``. ``behind`` is an Add of one number for each
    output to the result, if the layer was asked for with it.
    """

    node: Node
    place: int
    array: Array
    groups: int
    turned: bool
    behind: Node | None = None

    @property
    def x(self) -> Value:
        """The operand that flows in."""
        return self.node.inputs[1 - self.place]

    @property
    def y(self) -> Value:
        """The result, with the bias."""
        return (self.behind or self.node).outputs[0]

    @property
    def held(self) -> Value:
        """The constant that holds the weights."""
        return self.node.inputs[self.place]

    @cached_property
    def weight(self) -> Array:
        """The weights as they are stored: (groups, outputs, inputs, taps), of a group each."""
        return self.viewed(self.array)

    @cached_property
    def kernels(self) -> Array:
        """The weights by what they read: (inputs of all groups, outputs of a group, taps)."""
        _, outputs, _, taps = self.weight.shape
        return self.weight.swapaxes(1, 2).reshape(self.channels, outputs, taps)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The sizes of the kernel; of a matrix none."""
        return self.array.shape[2:]

    @property
    def channels(self) -> int:
        """The inputs of all groups."""
        return int(self.groups * self.weight.shape[2])

    @property
    def outputs(self) -> int:
        """The outputs of all groups, the groups one after the other."""
        return int(self.groups * self.weight.shape[1])

    @property
    def x_axis(self) -> int:
        """The axis of ``x`` that the inputs lie along, counted from the end: below 0."""
        if self.node.op in CONVS:
            return -1 - len(self.kernel)
        last = self.place == 1 or self.x.rank == 1
        return -1 if last != _is_transposed(self.node, 1 - self.place) else -_MATRIX

    @property
    def y_axis(self) -> int:
        """The axis of the result that the outputs lie along, counted from the end: below 0."""
        if self.node.op in CONVS:
            return -1 - len(self.kernel)
        return -1 if self.place == 1 or self.x.rank == 1 else -_MATRIX

    @property
    def x_port(self) -> Port:
        """The axis that the inputs lie along, of the operand that flows in."""
        return self.x, self.x_axis % (self.x.rank or 1)

    @property
    def y_port(self) -> Port:
        """The axis that the outputs lie along, of the result."""
        return self.y, self.y_axis % (self.y.rank or 1)

    @property
    def alpha(self) -> float:
        """What the product is multiplied by."""
        return float(self.node.attrs.get("alpha", 1.0))

    @property
    def beta(self) -> float:
        """What the bias is multiplied by."""
        return float(self.node.attrs.get("beta", 1.0)) if self.behind is None else 1.0

    @property
    def added(self) -> Value | None:
        """The operand that is added, if there is one."""
        if self.behind is not None:
            return self.behind.inputs[1 - self.behind.inputs.index(self.node.outputs[0])]
        given = () if self.node.op == ops.MatMul else self.node.inputs[2:3]
        return given[0] if given and not is_absent(given[0]) else None

    @property
    def bias(self) -> Array | None:
        """What is added to each output (outputs of all groups,): zeros where nothing is.

        None where that is not a constant of one number for each output.
        """
        held = self.added
        if held is None:
            return np.zeros(self.outputs, self.array.dtype)
        tensor = tensor_of(held)
        fits = tensor is not None and lies_along(tensor.array, self._bias_axis, self.outputs)
        return np.broadcast_to(tensor.array.reshape(-1), self.outputs) if tensor and fits else None

    def rows(self, stored: Array) -> Array:
        """Numbers like the stored weights, times alpha: (groups, outputs, inputs and taps)."""
        groups, outputs, inputs, taps = (viewed := self.viewed(stored)).shape
        return viewed.reshape(groups, outputs, inputs * taps) * self.alpha

    def viewed(self, stored: Array) -> Array:
        """Numbers that lie like the stored weights, as (groups, outputs, inputs, taps)."""
        first, second, *kernel = stored.shape
        apart = stored.reshape(self.groups, first // self.groups, second, prod(kernel))
        return apart.swapaxes(1, 2) if self.turned else apart

    def stored(self, weight: Array) -> Array:
        """Numbers (groups, outputs, inputs, taps), as the node stores them.

        The last two axes may be one, and there may be more or fewer outputs and inputs.
        """
        taps, (groups, outputs, *rest) = prod(self.kernel), weight.shape
        apart = weight.reshape(groups, outputs, prod(rest) // taps, taps)
        first, second = apart.shape[2:0:-1] if self.turned else apart.shape[1:3]
        turned = apart.swapaxes(1, 2) if self.turned else apart
        return turned.reshape(groups * first, second, *self.kernel)

    def with_weight(self, weight: Array) -> Linear:
        """The layer with other weights, rounded to the type of those it has: see ``stored``."""
        array = self.stored(weight).astype(self.array.dtype)
        return replace(self._on(self.place, ops.constant(array, self.held)), array=array)

    def with_bias(self, bias: Array, like: Value | None = None) -> Linear:
        """The layer with another bias (outputs,), rounded to the type of the weights.

        The constant has the name of ``like``, or else of the bias before. To a MatMul that has
        none, an Add is added.
        """
        old, shape = self.added, (-1, *[1] * (-1 - self._bias_axis))
        tensor = None if old is None or self.bias is None else tensor_of(old)
        if tensor is not None and tensor.size == bias.size:
            shape = tensor.array.shape
        new = ops.constant(bias.astype(self.array.dtype).reshape(shape), like or old)
        if self.behind is not None:
            place = 1 - self.behind.inputs.index(self.node.outputs[0])
            return replace(self, behind=_replaced(self.behind, place, new))
        if self.node.op == ops.MatMul:
            add = ops.lookup("Add", max(self.node.op.version, _BROADCASTING))
            assert add is not None
            return replace(self, behind=Node(add, (self.node.outputs[0], new)))
        return self._on(2, new)

    @property
    def _bias_axis(self) -> int:
        """The axis of a bias that the outputs lie along, counted from the end."""
        own = self.node.op in CONVS and self.behind is None
        return -1 if own else self.y_axis

    def _on(self, place: int, new: Value) -> Linear:
        node, behind = _replaced(self.node, place, new), self.behind
        if behind is not None:
            behind = _replaced(behind, behind.inputs.index(self.node.outputs[0]), node.outputs[0])
        return replace(self, node=node, behind=behind)


def linear(node: Node) -> Linear | str:
    """The layer that a node is, or why it is none.

    A node is one alone, or the Add of a constant behind one that has no bias of its own.
    """
    if node.op == ops.Add:
        return _biased(node)
    if not node.has("layer"):
        return "it is not linear in its weights"
    places = (1,) if node.op in CONVS else (1, 0)
    tensors = {place: tensor_of(node.inputs[place]) for place in places}
    found = next(((p, t.array) for p, t in tensors.items() if t is not None), None)
    if found is None:
        return "its weights are not a constant"
    return _conv(node, found[1]) if node.op in CONVS else _matrix(node, *found)


def whole(graph: Graph, layer: Linear) -> Linear:
    """A layer with the Add of a constant behind it, if that alone reads its result."""
    readers = graph.readers.get(layer.y, ())
    add = readers[0] if len(readers) == 1 == graph.uses[layer.y] else None
    found = linear(add) if add is not None and add.op == ops.Add else ""
    return found if isinstance(found, Linear) and found.node is layer.node else layer


def output_axis(node: Node, weights: Array) -> int | None:
    """The axis of the second operand of a layer that its outputs lie along.

    The operand may be a stack of matrices. None where several axes make the outputs, or none does.
    """
    if node.op in CONVS:
        turned = node.op == ops.ConvTranspose
        return None if turned and node.attrs.get("group", 1) != 1 else int(turned)
    if weights.ndim < _MATRIX:
        return None
    return weights.ndim - 1 - int(_is_transposed(node, 1))


def _conv(node: Node, weights: Array) -> Linear | str:
    channels, turned = node.inputs[0].type.size(1), node.op == ops.ConvTranspose
    groups = int(node.attrs.get("group", 1))
    if channels is not None and not turned:
        groups = channels // weights.shape[1]
    fits = groups > 0 and len(weights) % groups == 0
    met = weights.shape[0] if turned else groups * weights.shape[1]
    kernel = node.attrs.get("kernel_shape", weights.shape[2:])
    if not fits or channels not in {None, met} or kernel != weights.shape[2:]:
        return "its groups or its kernel are not those of its weights"
    return Linear(node, 1, weights, groups, turned)


def _matrix(node: Node, place: int, weights: Array) -> Linear | str:
    if weights.ndim != _MATRIX:
        return f"its weights have {weights.ndim} axes, not {_MATRIX}"
    return Linear(node, place, weights, 1, (place == 1) != _is_transposed(node, place))


def _is_transposed(node: Node, place: int) -> bool:
    return bool(node.attrs.get(("transA", "transB")[place]))


def _biased(add: Node) -> Linear | str:
    layers = [linear(v.node) for v in add.inputs if v.node is not None and v.node.has("layer")]
    found = next((layer for layer in layers if isinstance(layer, Linear)), None)
    if found is None or add.op.version < _BROADCASTING or add.inputs[0] is add.inputs[1]:
        return "it adds nothing to a layer"
    whole = replace(found, behind=add)
    if found.added is not None or add.outputs[0].rank != found.y.rank or whole.bias is None:
        return "what it adds is not one constant number for each output"
    return whole


def lies_along(array: Array, axis: int, size: int) -> bool:
    """Whether an array holds one number for each of ``size`` places along ``axis``, or for all."""
    along = array.shape[axis] if array.ndim >= -axis else 1
    return array.size == along and along in {1, size}


def _replaced(node: Node, place: int, new: Value) -> Node:
    return node.on((*node.inputs[:place], new, *node.inputs[place + 1 :]))
