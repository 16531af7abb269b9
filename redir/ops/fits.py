"""Whether operands of given sizes fit an operator, beyond what the inference of types checks."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from redir.ir import Node, Value
from redir.ir.builtin import tensor_of

Operands = tuple[Value, ...]


def conv(node: Node, inputs: Operands) -> str:
    """The channels must be those of the weight, and a window must find room.

    The groups are those that the node had before its sizes were known: they do not follow them.
    """
    quantised = node.op.name == "QLinearConv"
    x, w = inputs[0].type.static, inputs[3 if quantised else 1].type.static
    if x is None or w is None or len(x) != len(w):
        return ""
    groups = node.op.implied(node).get("group", node.attrs.get("group", 1))
    assert isinstance(groups, int)
    if x[1] != w[1] * groups:
        return f"{x[1]} channels for a weight of {w[1] * groups}"
    return _window(node, x[2:], w[2:])


def pool(node: Node, inputs: Operands) -> str:
    """A window must find room."""
    x = inputs[0].type.static
    return "" if x is None else _window(node, x[2:], node.attrs["kernel_shape"])


def _window(node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> str:
    rank = len(kernel)
    auto = node.attrs.get("auto_pad", "NOTSET")
    pads = node.attrs.get("pads", (0,) * 2 * rank) if auto == "NOTSET" else (0,) * 2 * rank
    dilations = node.attrs.get("dilations", (1,) * rank)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    room = [s + pads[a] + pads[a + rank] for a, s in enumerate(sizes)]
    if auto in {"NOTSET", "VALID"} and any(r < s for r, s in zip(room, spans, strict=True)):
        return f"a window of {spans} on {room}"
    return ""


def conv_transpose(node: Node, inputs: Operands) -> str:
    """The channels must be those of the weight."""
    del node
    x, w = inputs[0].type.static, inputs[1].type.static
    wrong = x is not None and w is not None and x[1] != w[0]
    return f"{x[1]} channels for a weight of {w[0]}" if wrong and x and w else ""


def reshape(node: Node, inputs: Operands) -> str:
    """As many elements must come out as go in."""
    x, target = inputs[0].type.static, tensor_of(inputs[1]) if len(inputs) > 1 else None
    if x is None or target is None:
        return ""
    goal = target.array.tolist()
    copies = not node.attrs.get("allowzero")
    if copies and any(t == 0 and i >= len(x) for i, t in enumerate(goal)):
        return f"{list(x)} to {goal}"
    sizes = [x[i] if t == 0 and copies else t for i, t in enumerate(goal)]
    known = prod(s for s in sizes if s != -1)
    fits = prod(x) % known == 0 if -1 in sizes and known else prod(x) == known
    return "" if fits else f"{list(x)} to {goal}"


def recurrent(node: Node, inputs: Operands) -> str:
    """The features must be those of the weight, and a state must have the batch of the operand."""
    x, w = inputs[0].type.static, inputs[1].type.static
    if x is None or w is None:
        return ""
    if x[2:] != w[2:]:
        return f"{x[2]} features for a weight of {list(w)}"
    axis = 0 if node.attrs.get("layout") else 1
    states = [v.type.static for v in inputs[5:7]]
    wrong = [s for s in states if s is not None and s[axis : axis + 1] != (x[axis],)]
    return f"a state of {list(wrong[0])} for a batch of {x[axis]}" if wrong else ""


def gather(node: Node, inputs: Operands) -> str:
    """Places that are known must be there."""
    x, places = inputs[0].type.static, tensor_of(inputs[1])
    if x is None or places is None:
        return ""
    size = x[node.attrs.get("axis", 0)]
    inside = np.all((places.array >= -size) & (places.array < size))
    return "" if inside else f"a place outside of {size}"


def pad(node: Node, inputs: Operands) -> str:
    """What a border mirrors must be there, and once: the edge itself is not mirrored."""
    x, given = inputs[0].type.static, inputs[1:2] and tensor_of(inputs[1])
    pads = node.attrs.get("pads", node.attrs.get("paddings", given and given.array.tolist()))
    mirrors = node.attrs.get("mode", "constant") == "reflect"
    if not mirrors or x is None or not pads or len(pads) != 2 * len(x):
        return ""
    far = any(p >= size for p, size in zip(pads, (*x, *x), strict=True))
    return f"a border of {list(pads)} that mirrors {list(x)}" if far else ""


def blocks(node: Node, inputs: Operands) -> str:
    """A SpaceToDepth takes whole blocks, a DepthToSpace whole sets of channels."""
    x, block = inputs[0].type.static, node.attrs["blocksize"]
    if x is None:
        return ""
    deep = node.op.name == "DepthToSpace"
    odd = [d % (block * block if deep else block) for d in (x[1:2] if deep else x[2:])]
    return f"{list(x)} in blocks of {block}" if any(odd) else ""


def layer_norm(node: Node, inputs: Operands) -> str:
    """The scale must spread over what is normalised."""
    x, scale = inputs[0].type.static, inputs[1].type.static
    if x is None or scale is None:
        return ""
    whole = x[node.attrs.get("axis", -1) :]
    pairs = zip(reversed(scale), reversed(whole), strict=False)
    return "" if all(s in {1, d} for s, d in pairs) else f"{list(whole)} scaled by {list(scale)}"


RULES: dict[str, Callable[[Node, Operands], str]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), conv),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), pool),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), blocks),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_norm),
    "ConvTranspose": conv_transpose,
    "Gather": gather,
    "Pad": pad,
    "Reshape": reshape,
}
