"""Which kernels that read an input channel are the same, or multiples of each other."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from redir.ir.tensor import Array, DType

MULTIPLES = 16.0  # the largest factor: beyond it a product that is small keeps too few digits
_BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}  # that a number holds
_TRIES = 8  # with how many others of those that look alike a kernel is compared, and how often


@dataclass(frozen=True, eq=False)
class Products:
    """The distinct products of input channels and kernels, and what is made of them.

    Product p, of P, is input channel ``channels[p]`` (P,) times ``kernels[p]`` (P, numbers). Each
    group has as many, one after the other: a group that needs fewer has kernels of zeros at its
    end. Kernel k of channel c is ``factor[c, k]`` times the product at ``place[c, k]`` in the
    group of c; both are (channels, kernels), and a factor of 0 says that there is no product.
    ``counts`` (channels,) says how many products each channel takes part in.
    """

    groups: int
    channels: Array
    kernels: Array
    place: Array
    factor: Array
    counts: Array

    @property
    def width(self) -> int:
        """The number of products in each group."""
        return self.channels.size // self.groups

    @property
    def routes(self) -> int:
        """How many numbers the routing holds."""
        return self.groups * int(self.factor.shape[1]) * self.width

    def routing(self) -> Array:
        """What each kernel takes of each product: (groups, kernels, products of a group)."""
        routing = np.zeros((self.groups, self.factor.shape[1], self.width), self.kernels.dtype)
        channel, kernel = np.nonzero(self.factor)
        group = channel // (len(self.factor) // self.groups)
        routing[group, kernel, self.place[channel, kernel]] = self.factor[channel, kernel]
        return routing


def by_channel(weights: Array, groups: int = 1) -> Array:
    """The kernels that read each input channel: (inputs, outputs / groups, numbers of a kernel).

    ``weights`` are (outputs, inputs / groups, ...), as those of a ``Conv``.
    """
    outputs, inputs, *kernel = weights.shape
    shape = (groups, outputs // groups, inputs, prod(kernel))
    return weights.reshape(shape).swapaxes(1, 2).reshape(groups * inputs, -1, prod(kernel))


def shared(kernels: Array, groups: int = 1, largest: float = 1.0) -> Products:
    """The fewest products found of which ``kernels`` (channels, kernels, numbers) are multiples.

    ``largest`` is the largest factor, either way: at 0 only kernels that are equal share a
    product, at 1 also those that differ in sign, and above that multiples, where the factor times
    the one kernel, rounded to the type of both, is the other. Where all numbers are whole, nothing
    may be rounded. Kernels of zeros have no product. All numbers must be finite.
    """
    rows = kernels.astype(np.float64)
    lead = _lead(rows)
    sign = np.sign(lead) if largest > 0 else np.sign(np.abs(lead))
    owner = _first_equal(rows * sign[..., None])
    factor = sign * np.take_along_axis(sign, owner, 1)
    if largest > 1:
        base, times = _multiples(rows, lead, owner, kernels.dtype, largest)
        factor = factor * np.take_along_axis(times, owner, 1)
        owner = np.take_along_axis(base, owner, 1)
    return _numbered(kernels, groups, owner, factor)


def split_ratio(weights: Array, groups: int = 1, *, multiples: bool = False) -> float:
    """The share of the dense products of ``weights`` that split-inputs computes, 0 to 1.

    ``weights`` are (outputs, inputs / groups, ...): distinct kernels other than zero, added up
    over the inputs, of inputs times outputs of a group. With ``multiples``, kernels that are
    multiples of each other, as ``shared`` finds them, count as one; numbers only if of one size.
    """
    kernels = by_channel(weights, groups)
    sharing = MULTIPLES if kernels.shape[-1] > 1 else 1.0
    found = shared(kernels, groups, sharing if multiples else 0.0)
    return float(found.counts.sum() / max(found.factor.size, 1))


def _lead(rows: Array) -> Array:
    """The number of the largest magnitude in each row."""
    place = np.abs(rows).argmax(-1)[..., None]
    found: Array = np.take_along_axis(rows, place, -1)[..., 0]
    return found


def _first_equal(rows: Array) -> Array:
    """For each row (channels, rows, numbers) the first of its channel that is equal: its index.

    NaN is equal to nothing.
    """
    order = np.lexsort(np.moveaxis(rows, -1, 0), axis=-1)
    placed = np.take_along_axis(rows, order[..., None], 1)
    fresh = np.ones(order.shape, bool)
    fresh[:, 1:] = (placed[:, 1:] != placed[:, :-1]).any(-1)
    start = np.maximum.accumulate(np.where(fresh, np.arange(order.shape[1]), 0), axis=1)
    first = np.empty_like(order)
    np.put_along_axis(first, order, np.take_along_axis(order, start, 1), 1)
    return first


def _multiples(
    rows: Array, lead: Array, owner: Array, dtype: DType, largest: float
) -> tuple[Array, Array]:
    """For each row the row that it is a multiple of, and the factor: both (channels, rows).

    Only rows that own themselves and are not zero are compared, and of these only those that look
    alike when divided by their largest number.
    """
    channels, count, numbers = rows.shape
    with np.errstate(all="ignore"):
        look = np.round(rows / lead[..., None] * 2.0 ** (_BITS[dtype.name] // 2))
    look[(owner != np.arange(count)) | (lead == 0)] = np.nan
    kind = (_first_equal(look) + count * np.arange(channels)[:, None]).reshape(-1)
    kernels, whole = rows.reshape(-1, numbers), np.array_equal(rows, np.round(rows))
    base, factor = np.arange(kind.size), np.ones(kind.size)
    left = np.flatnonzero(np.bincount(kind, minlength=kind.size)[kind] > 1)
    for _ in range(_TRIES):
        found, times = _best(kind[left], kernels[left], dtype, largest, whole=whole)
        moved = found != np.arange(left.size)
        if not moved.any():
            break
        base[left[moved]], factor[left[moved]] = left[found[moved]], times[moved]
        left = left[~moved & ~np.isin(np.arange(left.size), found[moved])]
    return base.reshape(lead.shape) % count, factor.reshape(lead.shape)


def _best(
    kind: Array, rows: Array, dtype: DType, largest: float, *, whole: bool
) -> tuple[Array, Array]:
    """For each row (rows, numbers) one of its ``kind`` that it is a multiple of, and the factor.

    Of the smallest of a kind it is the one of which most are multiples: which of several that
    differ by rounding the others were made from nobody knows.
    """
    _, kind = np.unique(kind, return_inverse=True)
    order = np.lexsort((np.abs(_lead(rows)), kind))
    ends = np.cumsum(np.bincount(kind))
    starts = np.concatenate([[0], ends[:-1]])
    base, factor, most = np.arange(len(rows)), np.ones(len(rows)), np.ones(len(rows))
    for turn in range(_TRIES):
        other = order[np.minimum(starts + turn, ends - 1)][kind]
        times, same = _times(rows, rows[other], dtype, whole=whole)
        same &= (np.abs(times) <= largest) & (np.abs(times) >= 1 / largest)
        matches = np.bincount(kind, same)[kind]
        better = matches > most
        base = np.where(better, np.where(same, other, np.arange(len(rows))), base)
        factor = np.where(better & same, times, factor)
        most = np.maximum(most, matches)
    return base, factor


def _times(rows: Array, others: Array, dtype: DType, *, whole: bool) -> tuple[Array, Array]:
    """The factor between each row and its other one, and whether it is one: (rows,).

    Tried are the ratio of the largest numbers, that of which the squared error is least, and the
    numbers next to it.
    """
    narrow = np.dtype(np.float32) if whole and dtype == np.float64 else dtype
    factor, same = np.zeros(len(rows)), np.zeros(len(rows), bool)
    with np.errstate(all="ignore"):
        least = (rows * others).sum(-1) / np.square(others).sum(-1)
        near = [least * (1 + step * 2.0 ** -_BITS[dtype.name]) for step in (0, -1, 1, -2, 2)]
        for guess in (_lead(rows) / _lead(others), *near):
            times = guess.astype(narrow).astype(np.float64)
            made = times[:, None] * others
            found = made if whole else made.astype(dtype).astype(np.float64)
            fits = (found == rows).all(-1) & ~same
            factor, same = np.where(fits, times, factor), same | fits
    return factor, same


def _numbered(kernels: Array, groups: int, owner: Array, factor: Array) -> Products:
    """The products in the order of the channels, then of the kernels that they are named after."""
    channels, count, numbers = kernels.shape
    per = channels // groups
    base = (owner == np.arange(count)) & (factor != 0)
    place = (np.cumsum(base.reshape(groups, -1), 1) - 1).reshape(base.shape)
    width = int(base.reshape(groups, -1).sum(1).max())
    channel, kernel = np.nonzero(base)
    at = channel // per, place[channel, kernel]
    read = np.repeat(np.arange(groups) * per, width).reshape(groups, width)
    read[at] = channel
    held = np.zeros((groups, width, numbers), kernels.dtype)
    held[at] = kernels[channel, kernel]
    return Products(
        groups,
        read.reshape(-1),
        held.reshape(-1, numbers),
        np.take_along_axis(place, owner, 1),
        factor,
        base.sum(1),
    )
