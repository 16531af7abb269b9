"""What convolutions and pools share: numbers by axis, and an example that came alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redir.frontends.torch.call import Call, whole
from redir.ir import Value

MATRIX = 2  # axes


def each(numbers: Sequence[int] | int, count: int) -> tuple[int, ...]:
    """One number for each axis; torch also takes one for all."""
    listed = [numbers] if isinstance(numbers, int) else list(numbers)
    return tuple(whole(n) for n in (listed * count if len(listed) == 1 else listed))


def unless(numbers: tuple[int, ...], usual: int) -> tuple[int, ...] | None:
    """The numbers, or None where all are what the operator takes them to be anyway."""
    return None if all(n == usual for n in numbers) else numbers


def batched(c: Call, x: Value, spatial: int, run: Callable[[Value], Value]) -> Value:
    """What ``run`` gives on ``x``, with a batch of one around an example that came alone."""
    if c.rank(x) == spatial + 2:
        return run(x)
    return c.squeeze(run(c.unsqueeze(x, 0)), 0)
