"""What products with matrices become in PyTorch: linear layers where they can."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redir import ops
from redir.backends.torch.emit.site import Emit, Result, Site, Tensors
from redir.backends.torch.emit.text import number_mark
from redir.backends.torch.ops.functions import kept
from redir.ir import Node, Value
from redir.ir.tensor import Array


def _gemm(site: Site) -> Result:
    weight, alpha, beta = site.array(1), site.attr("alpha", 1.0), site.attr("beta", 1.0)
    turned = bool(site.attr("transB", 0))
    usual = alpha == beta == 1 and not site.attr("transA", 0) and weight is not None
    if usual and weight is not None and site.owned(1) and _is_bias(site, weight):
        bias = site.value(2) if site.has(2) else None
        return f"{_linear(site, weight, bias, turned=turned)}({site.ref(0)})"
    a = site.ref(0) + (".T" if site.attr("transA", 0) else "")
    b = site.ref(1, weight=True) + (".T" if turned else "")
    product = f"{a} @ {b}" if alpha == 1 else f"{site.real('alpha', 1.0)} * ({a} @ {b})"
    if site.has(2) and beta != 0:
        c = site.ref(2, weight=True)
        product += f" + {c}" if beta == 1 else f" + {site.real('beta', 1.0)} * {c}"
    return product if alpha == beta == 1 else kept(site, product)


def _is_bias(site: Site, weight: Array) -> bool:
    """Whether the third operand of a Gemm is none, or one number for each output."""
    if not site.has(2):
        return True
    bias, width = site.array(2), weight.shape[0 if site.attr("transB", 0) else 1]
    return bias is not None and bias.shape == (width,) and site.owned(1, 2)


def _linear(
    site: Site, weight: Array, bias: Value | None, *, turned: bool, nodes: Sequence[Node] = ()
) -> str:
    """A linear layer with operand 1 as its weight, which torch holds output by input."""
    held = weight if turned else np.ascontiguousarray(weight.T)
    tensors: Tensors = {"weight": (held, site.value(1))}
    if bias is not None:
        tensors["bias"] = (site.scene.constants[site.scene.resolve(bias)][0], bias)
    outputs, inputs = held.shape
    sizes = f"{number_mark('in_features', inputs)}, {number_mark('out_features', outputs)}"
    more = "" if bias is not None else ", bias=False"
    return site.layer(f"nn.Linear({sizes}{more})", "linear", tensors, nodes)


def _matmul(site: Site) -> Result:
    """A linear layer where the second operand is a matrix of weights; a bias added is its own."""
    weight, rank = site.array(1), site.maybe_rank()
    matrix = weight is not None and weight.ndim == 2 and weight.dtype.kind in "fV"  # noqa: PLR2004
    if weight is None or not matrix or not site.owned(1) or rank is None or rank < 2:  # noqa: PLR2004
        return f"{site.ref(0)} @ {site.ref(1, weight=True)}"
    add, bias = _added(site, weight.shape[1])
    if add is None:
        return f"{_linear(site, weight, None, turned=False)}({site.ref(0)})"
    layer = _linear(site, weight, bias, turned=False, nodes=[add])
    site.fused([add], add)
    return f"{layer}({site.ref(0)})"


def _added(site: Site, width: int) -> tuple[Node | None, Value | None]:
    """The Add that alone reads the product, and its other operand, if that is a vector."""
    product, scene = site.node.outputs[0], site.scene
    readers = scene.readers(product)
    if scene.graph.uses[product] != 1 or [r.op for r in readers] != [ops.Add]:
        return None, None
    (add,) = readers
    other = scene.resolve(add.inputs[0 if add.inputs[1] is product else 1])
    held = other.node.attrs["value"] if other.node and other.node.op == ops.Const else None
    fits = held is not None and other.type.static == (width,) and other in scene.constants
    return (add, other) if fits and site.owns(other) and "axis" not in add.attrs else (None, None)


def _prelu(site: Site) -> Result:
    slope, x = site.array(1), site.ref(0)
    floating = site.kind().kind in "fV"
    if slope is not None and floating and site.owned(1) and _is_lined(site, slope):
        size = slope.size
        text = f"nn.PReLU({'' if size == 1 else number_mark('features', size)})"
        layer = site.layer(text, "prelu", {"weight": (slope.reshape(-1), site.value(1))})
        return f"{layer}({x})"
    return f"torch.where({x} < 0, {x} * {site.ref(1, weight=True)}, {x})"


def _is_lined(site: Site, slope: Array) -> bool:
    """Whether the slopes of a PRelu are one, or one for each channel."""
    rank = site.rank()
    if slope.size == 1 or rank == 1:
        return slope.size == 1 and slope.ndim <= rank
    old = site.version < 7 and slope.ndim == 1  # noqa: PLR2004 - broadcast to the channels
    shape = (1,) * (rank - slope.ndim) + slope.shape
    return old or (len(shape) == rank and shape[1] == slope.size)


TABLE: dict[str, Emit] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "PRelu": _prelu,
}
