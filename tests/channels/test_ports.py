"""Which channels links tie, and how their groups are numbered."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from redir.channels.ports import Ports, connected, declared
from redir.ir import Graph, width
from redir.ir.tensor import Array
from redir.testing import graphs

COUNT = 20
PAIRS = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=40)


def by_scipy(count: int, a: Array, b: Array) -> Array:
    matrix = coo_array((np.ones(a.size, bool), (a, b)), (count, count))
    labels: Array = connected_components(matrix, directed=False)[1]
    return labels


@given(PAIRS)
def test_what_is_connected_is_numbered_as_scipy_does(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, int).reshape(-1, 2).T
    assert connected(COUNT, a, b).tolist() == by_scipy(COUNT, a, b).tolist()


def test_long_chains_in_any_order_are_connected() -> None:
    order = np.random.default_rng(0).permutation(10_000)
    assert not connected(order.size, order[1:], order[:-1]).any()


@given(graphs("conv", "flatten", "concat", "channel_pad", "depthwise", "gemm"))
def test_groups_are_those_of_all_channels(graph: Graph) -> None:
    ports = Ports(graph, declared(graph))
    starts = dict(zip(ports.ports, np.cumsum([0, *map(width, ports.ports)]), strict=False))
    ends = [(starts[k.a] + np.arange(k.index.size), starts[k.b] + k.index) for _, k in ports.links]
    a, b = np.concatenate([np.zeros((2, 0), int), *map(np.array, ends)], axis=1)
    groups = np.concatenate([ports.group(port) for port in ports.ports])
    assert groups.tolist() == by_scipy(groups.size, a, b).tolist()
