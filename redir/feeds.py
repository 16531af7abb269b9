"""Arrays to run a graph on, where nobody gives any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod

import numpy as np

from redir import limits
from redir.errors import OutOfSteps, RedirError, Unsupported
from redir.ir import Graph
from redir.tensor import NO_DTYPE, Array, TensorType

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

SIZES = (64, 32, 224, 320, 16, 8, 4, 2, 1, 512, 16000)  # tried in turn where a size is open


def whole_feeds(graph: Graph, seed: int, size: int = 4) -> dict[str, Array]:
    """Small whole numbers for each input without a default; open dimensions get ``size``.

    On these, sums of products are exact in any order, so that == is fair.
    """
    return _feeds(graph, seed, size, lambda rng, shape: rng.integers(-4, 5, shape))


def normal_feeds(graph: Graph, seed: int, size: int = 4) -> dict[str, Array]:
    """Standard normal numbers for each input without a default."""
    return _feeds(graph, seed, size, lambda rng, shape: rng.standard_normal(shape))


def _feeds(graph: Graph, seed: int, size: int, draw: Draw) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    needed = {n: v.type for n, v in graph.inputs.items() if n not in graph.defaults}
    symbols: dict[str, int] = {}
    return {name: _array(name, t, rng, size, draw, symbols) for name, t in needed.items()}


def _array(
    name: str,
    type_: object,
    rng: np.random.Generator,
    size: int,
    draw: Draw,
    symbols: dict[str, int],
) -> Array:
    if not isinstance(type_, TensorType) or type_.dtype == NO_DTYPE or type_.shape is None:
        raise Unsupported(f"input {name!r} is {type_}: give arrays for it")
    shape = tuple(
        d
        if isinstance(d, int)
        else symbols.setdefault(d or f"{name} {axis}", 2 if axis == 0 else size)
        for axis, d in enumerate(type_.shape)
    )
    limits.ask(8 * prod(shape), f"input {name!r}")
    if type_.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if type_.dtype.kind in "iu":
        return rng.integers(0, 3, shape).astype(type_.dtype)
    if type_.dtype == np.dtype(object):
        return rng.choice(np.array(["a", "b", "c"], object), shape)
    return draw(rng, shape).astype(type_.dtype)


def runnable(
    graph: Graph, run: Callable[[Mapping[str, Array]], object], samples: int, seed: int = 0
) -> Iterator[dict[str, Array]]:
    """``samples`` feeds of a size for open dimensions on which ``run`` does not fail.

    Raises:
        Unsupported: it fails on all sizes tried; the message is that of the last failure.
    """
    last: Exception | None = None
    for size in SIZES:
        try:
            run(normal_feeds(graph, seed, size))
        except OutOfSteps:
            raise
        except RedirError as error:
            last = error
            continue
        yield from (normal_feeds(graph, seed + k, size) for k in range(samples))
        return
    raise Unsupported(f"the model runs on none of the inputs tried ({last})")
