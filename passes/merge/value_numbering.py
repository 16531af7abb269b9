"""Numbers for channels: which hold the same, and which hold multiples of one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from redir.channels.coupling import Coupling
from redir.ir import Link, Node, Port, Value, width
from redir.ir.tensor import Array, is_floating
from redir.ops import layout, tensor_of
from redir.passes.merge.algebra import terms


@dataclass(frozen=True)
class Numbers:
    """What is known of the channels of a port: of each its direction, and how long it is.

    Two channels of equal direction hold the same but for a factor, a power of two so that scaling
    by it is exact: 2 to the difference of their lengths. A channel of zeros has length -inf.
    """

    direction: Array
    length: Array

    @cached_property
    def apart(self) -> bool:
        """Whether no two channels hold multiples of one another; lengths say nothing then."""
        return bool(np.all(self.direction[1:] > self.direction[:-1]))

    def exactly(self) -> Array:
        """A number for each channel, equal for those that hold the same."""
        return same_rows(np.column_stack([self.direction, _bits(self.length)]))


def number_channels(
    coupling: Coupling, left_alone: frozenset[int] = frozenset()
) -> dict[Port, Numbers]:
    """The numbers of the channels of each port, those of the groups that are ``left_alone`` apart.

    This is value numbering along the links. A constant's channels are numbered by their content,
    those of a result by the numbers of the channels they are made from, and all else apart. A
    summed port gets the numbers of the channels that it is multiplied with.
    """
    fresh, numbers, left = 0, dict[Port, Numbers](), coupling.among(left_alone)
    for port in coupling.ports:
        if port in coupling.summed:
            continue
        found = None if left(port).all() else _found(coupling, port, numbers)
        found = found or _apart(port)
        numbers[port] = Numbers(found.direction + fresh, found.length)
        fresh += found.direction.size
    for port in coupling.summed:
        parts = [_reaching(port, link, numbers) for _, link in coupling.links_of(port)]
        known = [part for part in parts if part is not None]
        numbers[port] = _sum(known).numbers() if known else _apart(port)
    return numbers


def _apart(port: Port) -> Numbers:
    return Numbers(np.arange(width(port)), np.zeros(width(port)))


def _found(coupling: Coupling, port: Port, numbers: dict[Port, Numbers]) -> Numbers | None:
    node = port[0].node
    if node is None:
        return None
    if not node.inputs:
        return content(port)
    return None if port in coupling.pins else _derived(coupling, port, numbers)


# Constants


def content(port: Port) -> Numbers | None:
    """The numbers of the slices of a constant along an axis, by what they hold."""
    if _are_apart_at_a_glance(port):
        return _apart(port)
    rows = rows_of(port)
    if rows is None:
        return None
    scaled, length = _normalised(rows)
    direction = same_rows(scaled)
    odd = np.flatnonzero(~_finite(rows))  # NaN equals nothing, and infinities do not add up
    direction[odd] = len(rows) + odd
    return Numbers(np.unique(direction, return_inverse=True)[1].reshape(-1), length)


def _are_apart_at_a_glance(port: Port) -> bool:
    """Whether the first and the last number of each slice tell that no two are multiples.

    If they do not, the largest may. Multiples by a power of two have equal mantissas.
    """
    tensor = tensor_of(port[0])
    if tensor is None or not is_floating(tensor.type.dtype) or not tensor.size:
        return False
    slices = np.moveaxis(tensor.array, port[1], 0)
    others = tuple(range(1, slices.ndim))
    first, last = (slices[:, *(end for _ in others)] for end in (0, -1))
    if _differ(first, last) or not others:
        return _differ(first, last)
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of NaN
        return _differ(np.maximum(slices.max(others), -slices.min(others)), first)


def _differ(*pair: Array) -> bool:
    """Whether no two pairs of numbers (n,), (n,) have equal mantissas."""
    mantissas = np.empty(len(pair[0]), np.complex128)
    mantissas.real, mantissas.imag = (
        np.frexp(numbers.astype(np.float64) + 0.0)[0]
        for numbers in pair  # no -0.0
    )
    return bool(np.unique(mantissas).size == mantissas.size)


def rows_of(port: Port) -> Array | None:
    """A row for each slice of a constant along an axis, in which -0.0 is 0.0."""
    tensor = tensor_of(port[0])
    if tensor is None or tensor.type.dtype == np.dtype(object):
        return None
    array = np.moveaxis(tensor.array, port[1], 0)
    rows = np.ascontiguousarray(array).reshape(len(array), array[:1].size)
    return rows + rows.dtype.type(0) if is_floating(rows.dtype) else rows


def _finite(rows: Array) -> Array:
    if not is_floating(rows.dtype) and rows.dtype.kind != "c":
        return np.ones(len(rows), bool)
    return np.asarray(np.isfinite(rows).all(axis=1))


def _normalised(rows: Array) -> tuple[Array, Array]:
    """Each row divided by the power of two below its largest number, and the exponent of that.

    A row that would be rounded by that stays as it is, with exponent 0.
    """
    if not is_floating(rows.dtype):
        return rows, np.zeros(len(rows))
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of NaN
        peak = np.abs(rows).max(1, initial=0).astype(np.float64)
    peak[~np.isfinite(peak)] = 1
    length = np.where(peak == 0, -np.inf, np.frexp(peak)[1] - 1.0)
    factor = np.exp2(finite(length)).astype(rows.dtype)[:, None]
    scaled = rows / factor
    exact = (scaled * factor == rows).all(1)
    return np.where(exact[:, None], scaled, rows), np.where(exact, length, 0.0)


def finite(length: Array) -> Array:
    """The lengths, with 0 for zeros: how much longer two channels of equal direction are."""
    return np.where(np.isinf(length), 0.0, length)


def same_rows(matrix: Array) -> Array:
    """A number below ``len(matrix)`` for each row, equal for rows of equal bytes."""
    matrix = np.ascontiguousarray(matrix)
    if matrix.size == 0:
        return np.zeros(len(matrix), np.int64)
    whole = matrix.view(np.dtype((np.void, matrix.itemsize * matrix.shape[1]))).reshape(-1)
    return np.unique(whole, return_inverse=True)[1].reshape(-1)


# Results


@dataclass(frozen=True)
class _Part:
    """Something of which channels are made: alike where their rows of ``keys`` are equal."""

    keys: Array
    length: Array

    def numbers(self) -> Numbers:
        return Numbers(same_rows(self.keys), self.length)

    def plain(self) -> _Part:
        """The same, with a factor taken for another direction."""
        return _Part(np.column_stack([self.keys, _bits(self.length)]), np.zeros(len(self.keys)))


def _derived(coupling: Coupling, port: Port, numbers: dict[Port, Numbers]) -> Numbers | None:
    node, parts = port[0].node, dict[Value, list[_Part]]()
    links = [k for n, k in coupling.links_of(port) if n is node and k.kind != "summed"]
    if _are_apart(port, links, numbers):
        return None
    for link in links:
        part = _reaching(port, link, numbers)
        if part is None:
            return None
        parts.setdefault(_source(port, link)[0], []).append(part)
    return _combined(node, port, parts).numbers() if node and parts else None


def _source(port: Port, link: Link) -> Port:
    """The other end of a link."""
    return link.b if link.a == port else link.a


def _are_apart(port: Port, links: Sequence[Link], numbers: dict[Port, Numbers]) -> bool:
    """Whether the channels of a result differ since all those of an operand do."""
    sources = [_source(port, link) for link in links]
    apart = [source in numbers and numbers[source].apart for source in sources]
    if _is_beside(port):
        return all(apart) and len(set(sources)) == len(sources)
    return any(told and _reaches_each(port, k) for told, k in zip(apart, links, strict=True))


def _is_beside(port: Port) -> bool:
    """Whether a Concat puts the channels of its operands along an axis, one behind the other."""
    node = port[0].node
    return node is not None and node.op.standard == "Concat" and layout.concat_axis(node) == port


def _reaches_each(port: Port, link: Link) -> bool:
    """Whether each channel is made of one at the other end, and no two in the same way of one."""
    index = link.index
    whole = index.size == width(port) and bool(np.all(index[1:] > index[:-1]))
    return link.a == port or whole


def _combined(node: Node, port: Port, parts: dict[Value, list[_Part]]) -> _Part:
    """What ``node`` makes of the parts of its operands."""
    if _is_beside(port):
        return _side_by_side([part for found in parts.values() for part in found])
    factors = [[i for i in places if node.inputs[i] in parts] for places in terms(node)]
    if not all(factors):
        factors = []  # one product is the same for all channels, however long they are
    scaled = {i for places in factors for i in places}
    fixed = parts.keys() - {node.inputs[i] for i in scaled}
    fixed |= {v for i, v in enumerate(node.inputs) if v in parts and i not in scaled}
    plain = [part.plain() for v, found in parts.items() if v in fixed for part in found]
    made = [_product([_sum(parts[node.inputs[i]]) for i in places]) for places in factors]
    return _with(_sum(made), plain) if made else _sum(plain)


def _reaching(port: Port, link: Link, numbers: dict[Port, Numbers]) -> _Part | None:
    """What reaches each channel of ``port`` along ``link``: -1 where nothing does.

    With each comes which of the channels it is that are made from the same one: those of a block
    are alike, but not equal.
    """
    ranks = _ranks(link.index)
    if link.kind == "together":
        return _Part(ranks[:, None], np.zeros(width(port)))
    if link.a == link.b:
        return _Part(np.zeros((width(port), 1), int), np.zeros(width(port)))
    other = numbers.get(link.b if link.a == port else link.a)
    if other is None:
        return None
    if link.a == port:
        keys = np.stack([other.direction[link.index], ranks], 1)
        return _Part(keys, other.length[link.index])
    shape = width(port), int(ranks.max(initial=0)) + 1
    direction, length = np.full(shape, -1), np.full(shape, -np.inf)
    direction[link.index, ranks] = other.direction
    length[link.index, ranks] = other.length
    return _in_proportion(direction, length)


def _in_proportion(keys: Array, lengths: Array) -> _Part:
    """One part of several of the given lengths: alike where these are in equal proportion."""
    longest = lengths.max(1)
    shorter = lengths - finite(longest)[:, None]
    return _Part(np.column_stack([keys, _bits(shorter)]), longest)


def _sum(parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    keys, lengths = [p.keys for p in parts], [p.length for p in parts]
    return _in_proportion(np.column_stack(keys), np.column_stack(lengths))


def _product(parts: Sequence[_Part]) -> _Part:
    keys, lengths = [p.keys for p in parts], [p.length for p in parts]
    return _Part(np.column_stack(keys), np.sum(lengths, 0))


def _side_by_side(parts: Sequence[_Part]) -> _Part:
    """Parts of which one reaches each channel, and brings what is above the -1 of the others."""
    keys, lengths = [p.keys for p in parts], [p.length for p in parts]
    return _Part(np.max(keys, 0), np.max(lengths, 0))


def _with(part: _Part, others: Sequence[_Part]) -> _Part:
    return _Part(np.column_stack([part.keys, *(p.keys for p in others)]), part.length)


def _bits(numbers: Array) -> Array:
    return np.ascontiguousarray(numbers).view(np.int64)


def _ranks(index: Array) -> Array:
    """For each place, how many before it hold the same number."""
    if np.all(index[1:] > index[:-1]):
        return np.zeros_like(index)
    order = np.argsort(index, kind="stable")
    ranks = np.empty_like(index)
    _, starts, counts = np.unique(index[order], return_index=True, return_counts=True)
    ranks[order] = np.arange(index.size) - np.repeat(starts, counts)
    return ranks
