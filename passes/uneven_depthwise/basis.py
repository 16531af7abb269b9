"""Basis kernels: what the kernels that read one channel can be made from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy import linalg
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from redir.ir.tensor import Array, DType

Basis: TypeAlias = Literal["distinct", "multiples", "rank"]
Factors: TypeAlias = tuple[Array, Array]  # (r, places) kernels, (outputs, r) of each for an output

_WHOLE = 2.0**20  # below it sums of products of whole numbers are exact in float64
_GRID = 64  # fractions that factors of whole kernels may have


@dataclass(frozen=True)
class Separation:
    """Basis kernels, each of one input channel, and how much of each goes into an output.

    ``channels`` (n,) has the input channel of each kernel, ascending; ``kernels`` is (n, places)
    and ``factors`` (outputs of a group, n).
    """

    channels: Array
    kernels: Array
    factors: Array


def slice_ranks(slices: Array, dtype: DType) -> Array:
    """The rank of each slice of ``slices`` (inputs, outputs, places), rounded to ``dtype``.

    What is below four roundings of a slice counts as zero; whole numbers are not rounded.
    """
    peaks = np.abs(slices).max((1, 2), initial=0.0, keepdims=True)
    scaled = slices / np.where(peaks > 0, peaks, 1.0)
    sizes = np.linalg.svd(scaled, compute_uv=False)
    bounds = [
        4 * _precision(s, dtype) * float(np.linalg.norm(t))
        for s, t in zip(slices, scaled, strict=True)
    ]
    found: Array = (sizes > np.array(bounds)[:, None]).sum(1)
    return found


def separated(slices: Array, basis: Basis, dtype: DType) -> Separation:
    """As few kernels of ``basis`` as make each of ``slices`` (inputs, outputs, places).

    ``distinct``: those that differ; ``multiples``: those that are no multiples of one another;
    ``rank``: those that are independent. Whole numbers, and types of 16 bits that numpy has not,
    are made exactly or from more kernels; other numbers up to their rounding to ``dtype``.
    """
    ranks = slice_ranks(slices, dtype) if basis == "rank" else np.zeros(len(slices), int)
    parts = [_least(s, basis, int(r), dtype) for s, r in zip(slices, ranks, strict=True)]
    counts = [len(kernels) for kernels, _ in parts]
    return Separation(
        np.repeat(np.arange(len(slices)), counts),
        np.concatenate([kernels for kernels, _ in parts]),
        np.concatenate([factors for _, factors in parts], 1),
    )


def truncated(slices: Array, error: float, dtype: DType) -> Separation:
    """The kernels that make ``slices`` up to a relative error of ``error`` in their sum of squares.

    Those of the smallest singular values over all channels are left out, which leaves fewest
    (Eckart and Young, 1936). The squared error is that of the outputs, for inputs that are
    uncorrelated and have equal second moments.
    """
    peak = float(np.abs(slices).max()) or 1.0
    left, sizes, right = np.linalg.svd(slices / peak, full_matrices=False)
    order = np.argsort(sizes, axis=None)
    spent = np.cumsum(np.square(sizes.reshape(-1)[order]))
    kept = np.ones(sizes.size, bool)
    kept[order[spent <= error**2 * spent[-1]]] = False
    channels, places = np.nonzero(kept.reshape(sizes.shape))
    factors = left[channels, :, places] * (peak * sizes[channels, places])[:, None]
    kernels = right[channels, places]
    return Separation(channels, kernels.astype(dtype), factors.T.astype(dtype))


def _least(kernels: Array, basis: Basis, rank: int, dtype: DType) -> Factors:
    """The first basis of ``rank`` kernels that makes ``kernels``, or else the smallest one."""
    found: list[Factors] = []
    scale = _scale(kernels)
    for made, factors in _bases(kernels / scale, basis, rank, dtype):
        cast = (made * scale + 0.0).astype(dtype), (factors + 0.0).astype(dtype)  # no -0.0
        if _makes(cast, kernels, dtype):
            found.append(cast)
        if found and len(found[-1][0]) == rank:
            return found[-1]
    return min(found, key=lambda each: len(each[0]))


def _scale(kernels: Array) -> float:
    """A power of two by which numbers become neither too large nor too small to be squared."""
    peak = float(np.abs(kernels).max(initial=0.0))
    return 1.0 if _is_whole(kernels) else 2.0 ** (math.frexp(peak)[1] - 1)


def _bases(kernels: Array, basis: Basis, rank: int, dtype: DType) -> Iterator[Factors]:
    """What may make ``kernels`` (outputs, places), the smallest first."""
    if basis == "rank" and rank:
        yield from _spanning(kernels, rank, dtype)
    distinct = _distinct(kernels)
    if basis != "distinct" and len(distinct[0]):
        merged, sizes = _multiples(distinct[0], dtype)
        yield merged, distinct[1] @ sizes
    yield distinct


def _makes(made: Factors, kernels: Array, dtype: DType) -> bool:
    """Whether the factors give the kernels back, up to rounding where they are rounded."""
    basis, factors = (array.astype(np.float64) for array in made)
    with np.errstate(all="ignore"):
        missed = np.abs(factors @ basis - kernels).max(initial=0.0)
    if _is_exact(kernels, dtype):
        return bool(missed == 0)
    return bool(missed <= 8 * _precision(kernels, dtype) * np.abs(kernels).max(initial=0.0))


def _is_whole(kernels: Array) -> bool:
    return bool(np.all(kernels == np.rint(kernels)) and np.all(np.abs(kernels) < _WHOLE))


def _is_exact(kernels: Array, dtype: DType) -> bool:
    return dtype.kind != "f" or _is_whole(kernels)


def _precision(kernels: Array, dtype: DType) -> float:
    """The relative error that the kernels came with."""
    return float(np.finfo(np.float64 if _is_exact(kernels, dtype) else dtype).eps)


def _distinct(kernels: Array) -> Factors:
    """Each kernel that is not zero once."""
    found, index = np.unique(kernels + 0.0, axis=0, return_inverse=True)
    some = np.any(found != 0, axis=1)
    return found[some], np.eye(len(found))[index.reshape(-1)][:, some]


def _multiples(kernels: Array, dtype: DType) -> Factors:
    """One kernel of each direction: of whole ones the largest that all are whole multiples of."""
    labels = _directions(kernels, 4 * _precision(kernels, dtype))
    basis = np.stack([_common(kernels[labels == k]) for k in range(labels.max() + 1)])
    mine = basis[labels]
    sizes = np.sum(kernels * mine, 1) / np.sum(mine * mine, 1)
    return basis, np.eye(len(basis))[labels] * sizes[:, None]


def _directions(kernels: Array, near: float) -> Array:
    """For each kernel the number of its line through zero: (outputs,), each number from 0 on."""
    units = kernels / np.linalg.norm(kernels, axis=1, keepdims=True)
    side = units @ np.random.default_rng(0).standard_normal(kernels.shape[1])
    pairs = KDTree(units * np.sign(side)[:, None]).query_pairs(near, output_type="ndarray")
    joined = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(kernels),) * 2)
    labels: Array = connected_components(joined, directed=False)[1]
    return labels


def _common(kernels: Array) -> Array:
    """The kernel that those of one direction are multiples of."""
    common: Array = kernels[0]
    if _is_whole(kernels):
        sizes = np.gcd.reduce(kernels.astype(int), axis=1)
        common = common / sizes[0] * np.gcd.reduce(sizes)
    return common


def _spanning(kernels: Array, rank: int, dtype: DType) -> Iterator[Factors]:
    """Some of the kernels, of which the others are sums; then one for each of some places."""
    whole = _is_whole(kernels)
    rows = kernels[_picked(kernels, rank, short=whole)]
    factors = np.linalg.lstsq(rows.T, kernels.T)[0].T
    yield rows, _plain(factors, kernels, dtype)
    if whole:
        sizes = np.gcd.reduce(rows.astype(int), axis=1)
        yield rows / sizes[:, None], _plain(factors * sizes, kernels, dtype)
    columns = kernels[:, _picked(kernels.T, rank, short=whole)]
    yield _plain(np.linalg.lstsq(columns, kernels)[0], kernels, dtype), columns


def _picked(rows: Array, rank: int, *, short: bool) -> Array:
    """``rank`` independent rows: the longest, or, ``short``, the shortest, which divide others."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    weighed = rows / np.where(lengths > 0, lengths, 1.0) ** 2 if short else rows
    picked: Array = linalg.qr(weighed.T, mode="r", pivoting=True)[1]
    return picked[:rank]


def _plain(found: Array, kernels: Array, dtype: DType) -> Array:
    """What was solved for, with what is only rounding taken away."""
    gone = np.abs(found) < _precision(kernels, dtype)
    plain: Array = np.rint(found * _GRID) / _GRID if _is_whole(kernels) else found * ~gone
    return plain
