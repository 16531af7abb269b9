"""Kernels of our own, where the reference one of onnx is wrong, too slow or missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import product
from typing import Any, Literal

import numpy as np

from redir.ir import Node
from redir.ir.tensor import Array
from redir.ops import schema
from redir.ops.schema import trains
from redir.ops.traits import counts_border

Index = tuple[Any, ...]


def batch_norm(node: Node, *arrays: Any) -> Sequence[Any]:
    """(x - mean) scale / sqrt(var + epsilon) + bias; the reference trains before opset 14."""
    if trains(node) or node.arity > 1 or node.attrs.get("spatial", 1) != 1:
        return schema.evaluate(node, *arrays)
    x, scale, bias, mean, var = arrays
    along = (-1, *[1] * (x.ndim - 2))
    ratio = scale / np.sqrt(var + var.dtype.type(node.attrs.get("epsilon", 1e-5)))
    y = (x - mean.reshape(along)) * ratio.reshape(along) + bias.reshape(along)
    return [y.astype(x.dtype)]


def identity(node: Node, *arrays: Any) -> Sequence[Any]:
    """The operand; loading the reference takes longer than most models do."""
    del node
    return arrays


def erf(node: Node, *arrays: Any) -> Sequence[Any]:
    """The error function of all numbers at once; the reference takes one after the other."""
    from scipy import special  # noqa: PLC0415 - slow, and not every model has one

    del node
    (x,) = arrays
    return [np.asarray(special.erf(x)).astype(x.dtype)]


def gather_elements(node: Node, *arrays: Any) -> Sequence[Any]:
    """Numbers by their place along an axis; the reference fails where there are many places."""
    x, places = arrays
    axis = int(node.attrs.get("axis", 0)) % x.ndim
    within = tuple(slice(None if a == axis else n) for a, n in enumerate(places.shape))
    return [np.take_along_axis(x[within], places, axis)]


def one_hot(node: Node, *arrays: Any) -> Sequence[Any]:
    """The depth may be one number in a vector, which the reference refuses."""
    indices, depth, values = arrays
    return schema.evaluate(node, indices, np.reshape(depth, ()), values)


def global_max_pool(node: Node, *arrays: Any) -> Sequence[Any]:
    """The largest number of each channel; the reference takes all operands for images."""
    del node
    (x,) = arrays
    return [x.max(axis=tuple(range(2, x.ndim)), keepdims=True)]


def gemm(node: Node, *arrays: Any) -> Sequence[Any]:
    """A product and a sum, each with a factor; the reference forgets one before opset 7."""
    if node.op.version >= 7:  # noqa: PLR2004
        return schema.evaluate(node, *arrays)
    a, b, c = arrays
    a, b = (x.T if node.attrs.get(f"trans{n}", 0) else x for n, x in (("A", a), ("B", b)))
    y = node.attrs.get("alpha", 1.0) * (a @ b) + node.attrs.get("beta", 1.0) * c
    return [y.astype(a.dtype)]


def lrn(node: Node, *arrays: Any) -> Sequence[Any]:
    """Each number by the squares of channels around; the reference takes examples for channels."""
    (x,) = arrays
    size = node.attrs["size"]
    before, behind = (size - 1) // 2, size // 2
    squares = np.pad(x * x, [(0, 0), (before, behind), *[(0, 0)] * (x.ndim - 2)])
    met = sum(squares[:, k : k + x.shape[1]] for k in range(size))
    alpha, beta = node.attrs.get("alpha", 1e-4), node.attrs.get("beta", 0.75)
    y = x / (node.attrs.get("bias", 1.0) + alpha / size * met) ** beta
    return [y.astype(x.dtype)]


def max_pool(node: Node, *arrays: Any) -> Sequence[Any]:
    """The largest number under each window, and where it stands among all numbers.

    The reference mixes up pads that are not alike, and counts the places of each channel alone.
    """
    (x,) = arrays
    rank, (_, pads, places) = x.ndim - 2, _pooling(node, x.shape[2:])
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    padded = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=least)
    largest = reduce(np.maximum, (padded[place] for place in places))
    if node.arity == 1:
        return [largest]
    order: Literal["C", "F"] = "F" if node.attrs.get("storage_order", 0) else "C"
    counted = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:], order=order)
    start = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * rank) * counted.size
    indices = np.pad(start + counted, [(0, 0), (0, 0), *pads], constant_values=-1)
    first = np.full(largest.shape, -1)
    for place in places:
        here = (first < 0) & (padded[place] == largest)
        first[here] = indices[place][here]
    return [largest, first]


def average_pool(node: Node, *arrays: Any) -> Sequence[Any]:
    """The mean under each window: of the border too, if that counts, but of nothing behind it.

    The reference takes the windows one by one, a second for some ten thousand.
    """
    (x,) = arrays
    window, pads, places = _pooling(node, x.shape[2:])
    borders, border = zip(window.pads, window.pads[x.ndim - 2 :], strict=False), []
    for size, (first, last), (before, behind) in zip(x.shape[2:], pads, borders, strict=True):
        at = np.arange(first + size + last)
        low, high = first, first + size
        if counts_border(node):
            low, high = 0, before + size + behind
        border.append((low <= at) & (at < high))
    wide = np.promote_types(x.dtype, np.float32)
    padded = np.pad(x.astype(wide), [(0, 0), (0, 0), *pads])
    inside = reduce(np.multiply.outer, border).astype(wide)
    with np.errstate(invalid="ignore"):  # a window may hold nothing
        total, count = (reduce(np.add, (a[p] for p in places)) for a in (padded, inside))
        return [(total / count).astype(x.dtype)]


def _pooling(node: Node, shape: Sequence[int]) -> tuple[Window, list[tuple[int, int]], list[Index]]:
    """How a pool slides over ``shape``, how far beyond it, and what each place of it meets."""
    kernel = node.attrs["kernel_shape"]
    window = Window.of(node, len(shape)).around(node, shape, kernel)
    sizes = window.steps(shape, kernel, ceil=bool(node.attrs.get("ceil_mode", 0)))
    reach = zip(sizes, window.strides, window.spans(kernel), shape, window.pads, strict=False)
    pads = [(p, max(0, (m - 1) * s + e - n - p)) for m, s, e, n, p in reach]
    return window, pads, [window.index(place, sizes) for place in product(*map(range, kernel))]


def roi_align(node: Node, *arrays: Any) -> Sequence[Any]:
    """Before version 16 corners were not moved by half a place; the reference moves them."""
    if node.op.version >= 16:  # noqa: PLR2004
        return schema.evaluate(node, *arrays)
    unmoved = {**node.attrs, "coordinate_transformation_mode": "output_half_pixel"}
    newer = replace(node, op=replace(node.op, version=16), attrs=unmoved)
    return schema.evaluate(newer, *arrays)


def unsqueeze(node: Node, *arrays: Any) -> Sequence[Any]:
    """Insert axes all at once; the reference inserts one after the other before opset 13."""
    axes = node.attrs["axes"] if "axes" in node.attrs else arrays[1].reshape(-1).tolist()
    return [np.expand_dims(arrays[0], tuple(axes))]


def softmax(node: Node, x: Array) -> Sequence[Any]:
    """Shares of a sum along an axis; before opset 13 along all axes from that one, as one."""
    if node.op.version >= 13:  # noqa: PLR2004
        return schema.evaluate(node, x)
    axis = int(node.attrs.get("axis", 1))
    flat = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return [_flat_softmax(node.op.name, flat).astype(x.dtype).reshape(x.shape)]


def _flat_softmax(name: str, flat: Array) -> Array:
    from scipy import special  # noqa: PLC0415 - slow, and few models are so old

    kernels: dict[str, Callable[[Array], Array]] = {
        "Softmax": partial(special.softmax, axis=1),
        "LogSoftmax": partial(special.log_softmax, axis=1),
        "Hardmax": lambda flat: np.arange(flat.shape[1]) == flat.argmax(1)[:, None],
    }
    return kernels[name](flat)


@dataclass(frozen=True)
class Window:
    """How a kernel slides: strides, dilations and pads, one for each spatial axis or end."""

    strides: Sequence[int]
    dilations: Sequence[int]
    pads: Sequence[int]

    @classmethod
    def of(cls, node: Node, rank: int) -> Window:
        """How a node with ``rank`` spatial axes slides, but for what ``auto_pad`` asks for."""
        ones, attrs = (1,) * rank, node.attrs
        pads = attrs.get("pads", (0,) * 2 * rank)
        return cls(attrs.get("strides", ones), attrs.get("dilations", ones), pads)

    def around(self, node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Window:
        """This window with the pads that ``auto_pad`` asks for around axes of ``sizes``."""
        how = node.attrs.get("auto_pad", "NOTSET")
        if not how.startswith("SAME"):
            return self if how == "NOTSET" else replace(self, pads=(0,) * 2 * len(sizes))
        reach = zip(sizes, self.strides, self.spans(kernel), strict=True)
        total = [max(0, (-(-n // s) - 1) * s + e - n) for n, s, e in reach]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        return replace(self, pads=less + more if how == "SAME_UPPER" else more + less)

    def spans(self, kernel: Sequence[int]) -> list[int]:
        """The extent of the dilated kernel along each axis."""
        return [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]

    def steps(self, sizes: Sequence[int], kernel: Sequence[int], *, ceil: bool) -> list[int]:
        """How often the kernel fits along each axis; with ``ceil`` also where it sticks out."""
        rank = len(sizes)
        ends = zip(self.pads[:rank], self.pads[rank:], strict=True)
        found = []
        for n, (p, q), e, s in zip(sizes, ends, self.spans(kernel), self.strides, strict=True):
            count = -(-(n + p + q - e) // s) + 1 if ceil else (n + p + q - e) // s + 1
            inside = (count - 1) * s < n + p  # a window starts in the operand or before it
            found.append(count if inside or not ceil else count - 1)
        return found

    def index(self, place: Sequence[int], sizes: Sequence[int]) -> Index:
        """What the weight at ``place`` of the kernel meets: ``sizes`` steps along each axis."""
        steps = zip(place, self.dilations, sizes, self.strides, strict=True)
        return (..., *(slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in steps))


def conv(node: Node, *arrays: Any) -> Sequence[Any]:
    """One matrix product for each place of the kernel; the reference is ten times slower."""
    x, w, *bias = arrays
    rank = x.ndim - 2
    window = Window.of(node, rank).around(node, x.shape[2:], w.shape[2:])
    ends = zip(window.pads[:rank], window.pads[rank:], strict=True)
    padded = np.pad(x, [(0, 0), (0, 0), *ends])
    sizes = window.steps(x.shape[2:], w.shape[2:], ceil=False)
    groups = x.shape[1] // w.shape[1]
    kernel = w.reshape(groups, -1, *w.shape[1:])
    y = np.zeros((len(x), groups, kernel.shape[1], *sizes), x.dtype)
    for place in product(*map(range, w.shape[2:])):
        met = padded[window.index(place, sizes)].reshape(len(x), groups, w.shape[1], -1)
        y += (kernel[_at(place)] @ met).reshape(y.shape)
    return [_biased(y.reshape(len(x), len(w), *sizes), bias)]


def conv_transpose(node: Node, *arrays: Any) -> Sequence[Any]:
    """The adjoint of Conv; the reference mixes up groups, dilations and pads."""
    x, w, *bias = arrays
    rank = x.ndim - 2
    window = Window.of(node, rank)
    more = node.attrs.get("output_padding", (0,) * rank)
    groups = node.attrs.get("group", 1)
    reach = zip(x.shape[2:], window.strides, window.spans(w.shape[2:]), more, strict=True)
    sizes = [(n - 1) * s + e + m for n, s, e, m in reach]
    full = np.zeros((len(x), w.shape[1] * groups, *sizes), x.dtype)
    for place, part in _products(x, w, groups):
        full[window.index(place, x.shape[2:])] += part
    pads = _cropped(node, x.shape[2:], sizes, window)
    inner: Index = (
        ...,
        *(slice(max(p, 0), n - max(q, 0)) for (p, q), n in zip(pads, sizes, strict=True)),
    )
    more = [(max(-p, 0), max(-q, 0)) for p, q in pads]
    return [_biased(np.pad(full[inner], [(0, 0), (0, 0), *more]), bias)]


def _cropped(
    node: Node, old: Sequence[int], sizes: Sequence[int], window: Window
) -> list[tuple[int, int]]:
    """What is cropped before and behind each axis: the pads, or what gives the size asked for.

    It is less than 0 where zeros are added instead.
    """
    how, rank = node.attrs.get("auto_pad", "NOTSET"), len(sizes)
    wanted = node.attrs.get("output_shape")
    if how in {"SAME_UPPER", "SAME_LOWER"} and wanted is None:
        wanted = [n * s for n, s in zip(old, window.strides, strict=True)]
    if wanted is None:
        return list(zip(window.pads[:rank], window.pads[rank:], strict=True))
    excess = [n - m for n, m in zip(sizes, wanted, strict=True)]
    if how == "SAME_UPPER":
        return [(e // 2, e - e // 2) for e in excess]
    return [(e - e // 2, e // 2) for e in excess]


def _products(x: Array, w: Array, groups: int) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each place of the kernel, the operand times the weights there: (n, m, ...)."""
    pairs = list(zip(np.split(x, groups, 1), np.split(w, groups, 0), strict=True))
    for place in product(*map(range, w.shape[2:])):
        parts = [np.einsum("nc...,cm->nm...", a, b[_at(place)]) for a, b in pairs]
        yield place, np.concatenate(parts, 1)


def _at(place: Sequence[int]) -> Index:
    return (..., *place)


def _biased(y: Array, bias: Sequence[Any]) -> Array:
    rank = y.ndim - 2
    return y + bias[0].reshape(-1, *[1] * rank) if bias and bias[0] is not None else y
