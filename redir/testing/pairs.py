"""Steps of a few nodes that can be written as fewer."""

from __future__ import annotations

from collections.abc import Callable

from redir import ops
from redir.ir import Value
from redir.testing.draft import Draft, Step, channels


def _branches(d: Draft, x: Value) -> Value:
    """Layers that read one value, and this itself, are added."""
    size = channels(x)

    def conv() -> Value:
        k, groups = d.pick(1, 3), d.pick(1, size)
        weights = d.const(size, size // groups, k, k), *d.bias(size)
        return ops.Conv(x, *weights, pads=(k // 2,) * 4, group=groups)

    norm = [d.const(size, low=1, high=3) for _ in range(4)]
    some: list[Callable[[], Value]] = [
        conv,
        conv,
        lambda: ops.BatchNormalization(x, *norm),
        lambda: x,
    ]
    y = conv()
    for make in (d.pick(*some) for _ in range(d.number(1, 2))):
        pair = y, make()
        y = ops.Add(*(pair if d.flag() else pair[::-1]))
    return y


def _two_layers(d: Draft, x: Value) -> Value:
    """One layer behind the other, of which one looks at a place alone."""
    size, kernels = channels(x), d.pick((1, 1), (1, 3), (3, 1))
    for out, k in zip((size + d.number(0, 2), d.number(1, size + 1)), kernels, strict=True):
        weights = d.const(out, channels(x), k, k), *d.bias(out)
        x = ops.Conv(x, *weights, pads=(k // 2,) * 4)
    return x


PAIRS: dict[str, tuple[int, Step]] = {"branches": (4, _branches), "two_layers": (4, _two_layers)}
