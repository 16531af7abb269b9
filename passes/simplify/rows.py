"""Two layers, one behind the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from redir import ops
from redir.ir import Node
from redir.ir.tensor import Array
from redir.layers.linear import Linear, linear
from redir.ops.kernels import Window
from redir.passes.simplify.affine import reading
from redir.passes.simplify.rules import Around, Found, rule
from redir.passes.simplify.weights import freed, has_border, made, obstacle, trained_alike

_BIAS_OPTIONAL = 11  # the version from which a Gemm may have no bias


@rule("layers in a row", "Conv", "Gemm", "MatMul")
def layers_in_a_row(node: Node, around: Around) -> Found:
    """One layer with the product of their weights, where that is no larger than both."""
    second = linear(node)
    first = None if isinstance(second, str) or second.x.node is None else linear(second.x.node)
    if isinstance(second, str) or not isinstance(first, Linear):
        return None
    if not around.alone(first.y):
        return "the layer before it is read by others too"
    why = obstacle(first, around) or obstacle(second, around) or _apart(first, second)
    if why is not None:
        return why
    assert first.bias is not None
    assert second.bias is not None
    weight = _product(second, first)
    if weight.size > first.array.size + second.array.size:
        return "the product of their weights is larger than both"
    carried = second.weight.sum(3) @ first.bias.astype(np.float64).reshape(first.groups, -1, 1)
    base, gone = (first, second) if _is_pointwise(second) else (reading(second, first.x), first)
    bare = _bare(base)
    added = [v for v in (first.added, second.added) if v is not None and v is not bare.added]
    room = freed(around, (gone.held, *added))
    bias = second.bias + carried.reshape(-1)
    return made(bare, node, weight, bias, room, like=second.added or first.added)


def _bare(layer: Linear) -> Linear:
    """A layer without its bias, if its operator can be without one."""
    needed = layer.node.op == ops.Gemm and layer.node.op.version < _BIAS_OPTIONAL
    inputs = layer.node.inputs if needed else layer.node.inputs[:2]
    return replace(layer, node=layer.node.on(inputs), behind=None)


def _apart(first: Linear, second: Linear) -> str | None:
    """Why the weights of two layers have no product that is those of a layer."""
    if first.y_axis != second.x_axis or first.groups != second.groups:
        return "what one gives is not what the other adds up"
    if not trained_alike(first, second):
        return "one is frozen, and the other is not"
    if not _is_pointwise(second):
        if first.node.op != second.node.op or not _is_pointwise(first):
            return "both look around, or in steps"
        if has_border(second) and (first.bias is None or first.bias.any()):
            return "the bias of the first is not added to the border of the second"
        if _grows(second):
            return "the second gives more places than it reads"
    return None


def _is_pointwise(layer: Linear) -> bool:
    """Whether a layer makes of each place what is at that place in its result."""
    if not layer.kernel:
        return True
    window = Window.of(layer.node, len(layer.kernel))
    ones = set(layer.kernel) | set(window.strides) == {1}
    return layer.node.op == ops.Conv and ones and not any(window.pads)


def _grows(layer: Linear) -> bool:
    """Whether the pads of a Conv may be more than its kernel takes away."""
    window, rank = Window.of(layer.node, len(layer.kernel)), len(layer.kernel)
    pads = np.array(window.pads)
    return bool(np.any(pads[:rank] + pads[rank:] >= window.spans(layer.kernel)))


def _product(second: Linear, first: Linear) -> Array:
    """The weights that do what both do: (groups, outputs, inputs, taps), of which one has one."""
    both = (one.weight.astype(np.float64) for one in (second, first))
    behind, before = (weight.transpose(0, 3, 1, 2) for weight in both)
    return np.asarray((behind @ before).transpose(0, 2, 3, 1))


RULES = (layers_in_a_row,)
