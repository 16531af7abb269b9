"""Which directions of a space stay, and what those say of the ones that go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import linalg

from redir.errors import Unsupported
from redir.ir import Graph, Port, width
from redir.ir.tensor import Array
from redir.passes.narrow_stream.narrowing import Bases, Narrowing
from redir.passes.narrow_stream.readings import Reading, readings
from redir.progress import progress
from redir.statistics.walk import Batches, running

_NOISE = 1e-4  # of the mean energy of a direction: moments are known from samples


def moments(graph: Graph, found: Sequence[Reading], batches: Batches) -> Mapping[Port, Array]:
    """The second moments (channels, channels) of what layers read, over all batches.

    Raises:
        Unsupported: the graph cannot be run, or they are not finite.
    """
    named = {f"x{place}": reading.port for place, reading in enumerate(found)}
    shown = {name: value for name, (value, _) in named.items()}
    run = running(replace(graph, outputs=shown))
    grams = {port: np.zeros((width(port),) * 2) for port in named.values()}
    for batch in progress(batches, "what flows"):
        made = run(batch)
        for name, port in named.items():
            rows = np.moveaxis(made[name], port[1], -1).reshape(-1, width(port))
            rows = rows.astype(np.promote_types(rows.dtype, np.float32), copy=False)
            with np.errstate(over="ignore", invalid="ignore"):  # which is told of below
                grams[port] += rows.T @ rows
    if not all(np.isfinite(gram).all() for gram in grams.values()):
        raise Unsupported("what flows through it, or the square of that, is not finite")
    return grams


def bases(plan: Narrowing, batches: Batches) -> Bases:
    """What is to lie along each constant of a space, so that fewer channels are left.

    The directions that stay are those of most energy in what layers read, each of which counts
    alike (SliceGPT, Ashkboos et al., ICLR 2024). What reads by weights of its own takes from these
    what they say best of all others, by least squares.

    Raises:
        Unsupported: the graph cannot be run, or second moments are not finite.
    """
    space, found = plan.space, readings(plan.space)
    grams = moments(space.graph, found, batches)
    pooled: Array = np.sum([gram / (np.trace(gram) or 1.0) for gram in grams.values()], 0)
    stays = np.ascontiguousarray(linalg.eigh(pooled)[1][:, ::-1][:, : plan.channels])
    made: dict[Port, Array] = {(v, a): stays for v, axes in space.constants.items() for a in axes}
    for reading in found:
        made.update(dict.fromkeys(reading.weights, _saying(stays, grams[reading.port])))
    return made


def _saying(stays: Array, gram: Array) -> Array:
    """What directions that stay (channels, some) say of all, where these have such moments."""
    kept = gram + (_NOISE * np.trace(gram) / len(gram) or 1.0) * np.eye(len(gram))
    across = kept @ stays
    said: Array = linalg.solve(stays.T @ across, across.T, assume_a="pos").T
    return said
