"""Which weights become how few values, so that they err little for the bytes they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from redir.cost.allocation import Option
from redir.ir import Value
from redir.ir.tensor import Array, Tensor
from redir.layers.codebook import each_reduced
from redir.layers.output_error import relative_error
from redir.layers.palette import distinct, least_bits
from redir.passes.palettize.storing import stored_bytes
from redir.statistics.effects import Options
from redir.tasks import mapped


def options(weights: Mapping[Value, Array], widths: Sequence[int]) -> Options:
    """Each weight, and what it is in each of the ``widths``, in bits, with the bytes of each.

    The errors are the squares of those that weights alone tell.
    """
    made = mapped(partial(_options, widths), [*weights.values()], "weights", memory=_memory)
    return dict(zip(weights, made, strict=True))


def _options(widths: Sequence[int], array: Array) -> Sequence[Option[Array]]:
    return [_option(array, a) for a in (array, *each_reduced(array, [2**b for b in widths]))]


def _memory(array: Array) -> int:
    """What ``_options`` holds: some copies in float64, and what is made."""
    return 16 * array.nbytes


def _option(old: Array, new: Array) -> Option[Array]:
    count = distinct(new)
    bits = least_bits(count)
    size = new.nbytes
    if bits is not None:
        size = min(size, stored_bytes(Tensor.take(new), bits, count))
    return Option(new, size, relative_error(old, new) ** 2)


def within(found: Options, error: float) -> dict[Value, Array]:
    """The weights, reduced where that saves most for a root mean square of errors up to ``error``.

    Step by step that is taken which costs the least squared error for each byte it saves.
    """
    chosen = {value: first for value, (first, *_) in found.items()}
    left = len(chosen) * error**2
    while steps := [
        ((new.error - now.error) / (now.cost - new.cost), value, new)
        for value, now in chosen.items()
        for new in found[value]
        if new.cost < now.cost and new.error - now.error <= left
    ]:
        _, value, new = min(steps, key=lambda step: step[0])
        left -= new.error - chosen[value].error
        chosen[value] = new
    return {value: option.what for value, option in chosen.items()}
