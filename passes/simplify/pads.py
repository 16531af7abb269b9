"""A Pad by zeros, and the layer that could do it."""

from __future__ import annotations

import numpy as np

from redir.ir import Node
from redir.ir.tensor import Array
from redir.ops import is_absent, tensor_of
from redir.passes.simplify.rules import Around, Found, rule

_COUNTING = 7  # the version from which an AveragePool may count what it pads
_LEADING = 2  # axes that a layer does not pad: those of examples and channels


@rule("Pad before a layer", "Conv", "AveragePool")
def pad_before_layer(node: Node, around: Around) -> Found:
    """The layer pads."""
    pad = node.inputs[0].node
    if pad is None or pad.op.standard != "Pad":
        return None
    if not around.alone(node.inputs[0]):
        return "the Pad is read by others too"
    amounts = _amounts(pad)
    if amounts is None:
        return "the Pad is not one by zeros, as often as a constant says"
    (before, after), rank = np.split(amounts, 2), len(amounts) // 2
    if np.any(amounts < 0) or before[:_LEADING].any() or after[:_LEADING].any():
        return "the Pad cuts, or is along examples or channels"
    own = np.array(node.attrs.get("pads", (0,) * 2 * (rank - _LEADING)))
    added = np.concatenate([before[_LEADING:], after[_LEADING:]])
    why = _obstacle(node, own, own + added)
    if why is not None:
        return why
    more = {} if node.op.standard == "Conv" else {"count_include_pad": 1}
    pads = tuple(int(n) for n in own + added)
    return node.on((pad.inputs[0], *node.inputs[1:]), pads=pads, **more).outputs[0]


def _obstacle(node: Node, own: Array, pads: Array) -> str | None:
    """Why a layer that pads by ``own`` cannot pad by ``pads``."""
    if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return "its pads follow the size of what it reads"
    if node.op.standard == "Conv":
        return None
    counts = node.attrs.get("count_include_pad") or not own.any()
    if node.op.version < _COUNTING or node.attrs.get("ceil_mode") or not counts:
        return "it does not count what it pads"
    kernel = node.attrs["kernel_shape"]
    return "it would pad more than its kernel" if np.any(pads >= [*kernel, *kernel]) else None


def _amounts(pad: Node) -> Array | None:
    """The pads (before each axis, behind each), if they are constant, of all axes, and zeros."""
    if pad.attrs.get("mode", "constant") != "constant":
        return None
    held = pad.attrs.get("pads", pad.attrs.get("paddings"))
    if held is not None:
        return None if pad.attrs.get("value") else np.array(held)
    given = [None if is_absent(v) else tensor_of(v) for v in pad.inputs[1:]]
    filled = pad.inputs[2:3] and not is_absent(pad.inputs[2])
    if not given or given[0] is None or any(not is_absent(v) for v in pad.inputs[3:]):
        return None
    if filled and (given[1] is None or np.any(given[1].array != 0)):
        return None
    return np.asarray(given[0].array)


RULES = (pad_before_layer,)
