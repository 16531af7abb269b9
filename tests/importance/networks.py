"""Small networks whose scores can be told by hand, and how they are looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redir import ops
from redir.channels.coupling import Coupling
from redir.importance import Criterion, Evidence, Family, families, scored
from redir.importance.criterion import Reduction
from redir.ir import Graph, Value
from redir.ir.tensor import Array
from tests.helpers import const, placeholder

X = placeholder(1, 1, 4, 4)


def conv(x: Value, rows: object, groups: int = 1) -> Value:
    """A 1x1 convolution by a matrix."""
    weight = const(np.array(rows)[:, :, None, None])
    return ops.Conv(x, weight, **({"group": groups} if groups > 1 else {}))


def norm(x: Value, scale: Sequence[float], shift: Sequence[float] | None = None) -> Value:
    """A norm of mean 0 and variance 1."""
    zeros, ones = np.zeros(len(scale)), np.ones(len(scale))
    vectors = scale, zeros if shift is None else shift, zeros, ones
    return ops.BatchNormalization(x, *map(const, vectors))


def of(y: Value) -> Graph:
    return Graph({"x": X}, {"y": y})


def family_of(graph: Graph, value: Value) -> Family:
    """The family of the channels of a value."""
    coupling = Coupling(graph)
    (found,) = (family for family in families(coupling) if (value, 1) in family.ports)
    return found


def scores(
    given: Criterion, graph: Graph, value: Value, reduction: Reduction = "mean"
) -> list[float]:
    """The scores of the channels of a value, before families are made comparable."""
    family = family_of(graph, value)
    found = scored(given, family, Evidence(graph), reduction, "none")
    return [float(n) for n in found[family.places((value, 1))]]


def rounded(numbers: Array | Sequence[float]) -> list[float]:
    return [round(float(n), 4) for n in numbers]


def summed(outputs: Array, _: object) -> Array:
    """A loss that is the output itself."""
    found: Array = outputs.reshape(len(outputs), -1).sum(1)
    return found
