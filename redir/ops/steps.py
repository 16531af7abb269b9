"""Operators whose result jumps: what a step may turn into when its operands move by a last bit.

A rule ``rule(node, arrays, slacks, results)`` says whether ``results`` may be those of ``node`` on
``arrays`` each of whose numbers is moved by at most the operand's slack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from redir.ir import Node
from redir.ir.tensor import Array

Rule: TypeAlias = Callable[[Node, Sequence[Any], Sequence[float], Sequence[Any]], bool]

_FLAT_BEFORE = 13  # the version before which a Hardmax flattens what is behind its axis


def rounding(_: Node) -> Rule:
    """A result that rises or falls with each operand, number by number."""
    return _between


def equality(_: Node) -> Rule:
    """True at one point only."""
    return _same_or_near


def casting(node: Node) -> Rule | None:
    """To whole numbers; between floats a cast is an ordinary rounding."""
    name = node.outputs[0].type.dtype.name
    if name == "bool":
        return _zero_or_near
    return _between if "int" in name else None


def remainder(node: Node) -> Rule | None:
    """Of floats: what is as near to the divisor as to zero."""
    return _around if node.outputs[0].type.dtype.kind == "f" else None


def pooling(node: Node) -> Rule | None:
    """The places of the largest numbers, where they are asked for."""
    return _pooled if node.arity > 1 else None


def _evaluated(node: Node, arrays: Sequence[Any]) -> Sequence[Any]:
    with np.errstate(all="ignore"):
        return node.op.evaluate(node, *arrays)


def _moved(array: Any, slack: float) -> tuple[Any, ...]:
    if not slack:
        return (array,)
    wide = array.astype(np.float64)
    return tuple((wide + by).astype(array.dtype) for by in (-slack, 0.0, slack))


def _between(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    """Each number lies between the least and the largest of what moved operands give."""
    corners = product(*map(_moved, arrays, slacks))
    wide = [np.asarray(_evaluated(node, c)[0]).astype(np.float64) for c in corners]
    result = np.asarray(results[0]).astype(np.float64)
    if result.shape != wide[0].shape:
        return False
    low, high = np.fmin.reduce(wide), np.fmax.reduce(wide)
    odd = np.isnan(result) & np.isnan(wide).any(0)
    return bool(np.all(((low <= result) & (result <= high)) | odd))


def _differing(node: Node, arrays: Sequence[Any], results: Sequence[Any]) -> Array | None:
    """Where a result is not what the node gives; None where it is of another shape."""
    own, result = np.asarray(_evaluated(node, arrays)[0]), np.asarray(results[0])
    return own != result if own.shape == result.shape else None


def _same_or_near(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    differing = _differing(node, arrays, results)
    if differing is None:
        return False
    far = np.abs(np.subtract(*(a.astype(np.float64) for a in arrays))) > sum(slacks)
    return not np.any(differing & far)


def _zero_or_near(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    differing = _differing(node, arrays, results)
    far = np.abs(arrays[0].astype(np.float64)) > slacks[0]
    return differing is not None and not np.any(differing & far)


def _around(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    own, result = np.asarray(_evaluated(node, arrays)[0]), np.asarray(results[0])
    if own.shape != result.shape:
        return False
    x, y = (np.abs(a.astype(np.float64)) for a in arrays)
    with np.errstate(all="ignore"):
        reach = slacks[0] + slacks[1] * (1 + x / y)
        apart = np.abs(own.astype(np.float64) - result)
        near = np.minimum(apart, np.abs(y - apart)) <= reach
    return bool(np.all(near | (own == result) | ((own != own) & (result != result))))  # noqa: PLR0124


# Places of the largest numbers


def largest(_: Node) -> Rule:
    """The place of the largest number along an axis, or of the least."""
    return _largest


def sorting(_: Node) -> Rule:
    """The largest numbers along an axis, or the least, and their places."""
    return _sorted


def one_hot(_: Node) -> Rule:
    """A one at the place of the largest number along an axis."""
    return _one_hot


def _near(a: Array, b: Array, reach: float) -> bool:
    with np.errstate(invalid="ignore"):  # of two infinities
        return bool(np.all((np.abs(a - b) <= reach) | (a == b)))


def _picked(x: Array, places: Array, axis: int) -> Array | None:
    """The numbers at ``places`` along an axis; None where there are no such places."""
    size = x.shape[axis]
    rest = [[n for k, n in enumerate(a.shape) if k != axis % x.ndim] for a in (x, places)]
    if places.ndim != x.ndim or rest[0] != rest[1] or np.any((places < -size) | (places >= size)):
        return None
    return np.take_along_axis(x, places, axis)


def _largest(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    sign = -1.0 if node.op.name == "ArgMin" else 1.0
    x, places = sign * arrays[0].astype(np.float64), np.asarray(results[0])
    axis = int(node.attrs.get("axis", 0))
    if not node.attrs.get("keepdims", 1):
        places = np.expand_dims(places, axis)
    picked = _picked(x, places, axis)
    return picked is not None and _near(picked, x.max(axis, keepdims=True), 2 * slacks[0])


def _sorted(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    sign = 1.0 if node.attrs.get("largest", 1) else -1.0
    x, axis = sign * arrays[0].astype(np.float64), int(node.attrs.get("axis", -1))
    values, places = sign * np.asarray(results[0], np.float64), np.asarray(results[1])
    count = int(np.reshape(arrays[1], ())) if len(arrays) > 1 else int(node.attrs["k"])
    picked = _picked(x, places, axis)
    if picked is None or picked.shape[axis] != count or values.shape != picked.shape:
        return False
    if np.any(np.diff(np.sort(places % x.shape[axis], axis), axis=axis) == 0):
        return False
    best = np.take(-np.sort(-x, axis), range(count), axis)
    ordered = picked if node.attrs.get("sorted", 1) else -np.sort(-picked, axis)
    return _near(picked, values, 2 * slacks[0]) and _near(ordered, best, 2 * slacks[0])


def _one_hot(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    x, ones = arrays[0].astype(np.float64), np.asarray(results[0]).astype(np.float64)
    axis = int(node.attrs.get("axis", 1 if node.op.version < _FLAT_BEFORE else -1))
    if x.shape != ones.shape:
        return False
    if node.op.version < _FLAT_BEFORE:
        behind = int(np.prod(x.shape[axis:]))
        x, ones, axis = x.reshape(-1, behind), ones.reshape(-1, behind), 1
    valid = np.isin(ones, (0, 1)).all() and (ones.sum(axis) == 1).all()
    picked = np.where(ones == 1, x, -np.inf).max(axis)
    return bool(valid) and _near(picked, x.max(axis), 2 * slacks[0])


def _pooled(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    x, (values, places) = arrays[0].reshape(-1).astype(np.float64), map(np.asarray, results)
    own = np.asarray(_evaluated(node, arrays)[0]).astype(np.float64)
    if own.shape != values.shape or own.shape != places.shape or np.any(places >= x.size):
        return False
    reach = 2 * slacks[0]
    return _near(own, values.astype(np.float64), reach) and _near(own, x[places], reach)


# A scale that follows the numbers


def dynamic(_: Node) -> Rule:
    """Bytes, and the scale and zero point that the range of the numbers asks for."""
    return _dynamic


def _dynamic(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    x, slack = arrays[0].astype(np.float64), slacks[0]
    found, scale, zero = (np.asarray(r, np.float64) for r in results)
    own = float(_evaluated(node, arrays)[1])
    least = float(x.min(initial=0.0))
    reach = 2 * slack / 255 + 1e-6 * own
    zeros = [np.rint(-(least + by) / (scale or 1.0)) for by in (slack + reach, -slack - reach)]
    lowest, highest = np.clip(zeros, 0, 255)
    bytes_ = [np.clip(np.rint((x + by) / (scale or 1.0)) + zero, 0, 255) for by in (-slack, slack)]
    return (
        found.shape == x.shape
        and abs(float(scale) - own) <= reach
        and bool(lowest <= zero <= highest)
        and bool(np.all((bytes_[0] <= found) & (found <= bytes_[1])))
    )


# Boxes that overlap


def suppression(_: Node) -> Rule:
    """The boxes that no better box overlaps."""
    return _suppressed


def _suppressed(
    node: Node, arrays: Sequence[Any], slacks: Sequence[float], results: Sequence[Any]
) -> bool:
    """Whether each box that was chosen may be chosen, and each that was not may be left out."""
    boxes, scores, *rest = arrays
    limits = [0.0 if a is None else float(np.reshape(a, ())) for a in (*rest, None, None)][:2]
    least = -np.inf if len(rest) < 3 or rest[2] is None else float(np.reshape(rest[2], ()))  # noqa: PLR2004
    chosen = np.asarray(results[0])
    inside = (chosen >= 0).all() and (chosen < (*scores.shape[:2], boxes.shape[1])).all()
    if chosen.ndim != 2 or not inside:  # noqa: PLR2004
        return False
    corners = _corners(boxes.astype(np.float64), bool(node.attrs.get("center_point_box", 0)))
    return all(
        _chosen(
            corners[batch],
            scores[batch, kind].astype(np.float64),
            chosen[(chosen[:, 0] == batch) & (chosen[:, 1] == kind), 2],
            (int(limits[0]), limits[1], least),
            slacks,
        )
        for batch, kind in np.ndindex(*scores.shape[:2])
    )


def _corners(boxes: Array, centred: bool) -> Array:  # noqa: FBT001 - an attribute of the operator
    """Boxes as their least and largest corner: (batch, box, 4)."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _chosen(
    boxes: Array,
    scores: Array,
    order: Array,
    limits: tuple[int, float, float],
    slacks: Sequence[float],
) -> bool:
    most, overlap, least = limits
    moved, reach = slacks[0], 2 * slacks[1]
    if len(order) > most or len(set(order.tolist())) < len(order):
        return False
    best = scores[order]
    if np.any(best < least - reach) or np.any(np.diff(best) > reach):
        return False
    low, high = _overlaps(boxes[order], boxes, moved)
    alone = np.triu(low[:, order], 1) <= overlap
    covered = (high >= overlap) & (best[:, None] >= scores - reach)
    full = len(order) == most
    left_out = covered.any(0) | (scores <= least + reach)
    if full:
        left_out |= scores <= best.min(initial=np.inf) + reach
    left_out[order] = True
    return bool(alone.all() and left_out.all())


def _overlaps(first: Array, second: Array, moved: float) -> tuple[Array, Array]:
    """The least and the largest share that boxes may have in common, each corner moved so far."""
    lower = np.maximum(first[:, None, :2], second[None, :, :2])
    upper = np.minimum(first[:, None, 2:], second[None, :, 2:])
    found = []
    for by in (-2 * moved, 2 * moved):
        common = np.prod(np.maximum(upper - lower + by, 0), -1)
        areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2] - by, 0), -1) for b in (first, second)]
        whole = np.maximum(areas[0][:, None] + areas[1][None, :] - common, 1e-300)
        found.append(common / whole * (1 + np.sign(by) * 1e-6))
    return found[0], found[1]


RULES: dict[str, Callable[[Node], Rule | None]] = {
    **dict.fromkeys(
        """Ceil Floor Greater GreaterOrEqual Less LessOrEqual QuantizeLinear Round Shrink Sign
        ThresholdedRelu""".split(),
        rounding,
    ),
    **dict.fromkeys(("ArgMax", "ArgMin"), largest),
    **dict.fromkeys(("Cast", "CastLike"), casting),
    "DynamicQuantizeLinear": dynamic,
    "Equal": equality,
    "Hardmax": one_hot,
    "MaxPool": pooling,
    "Mod": remainder,
    "NonMaxSuppression": suppression,
    "TopK": sorting,
}
