"""Analyses: made once for a graph, and gone with it."""

from __future__ import annotations

import gc
import weakref

from redir import ops
from redir.channels.coupling import Coupling
from redir.ir import Graph
from tests.helpers import placeholder

X = placeholder(1, 3)


def of() -> Graph:
    return Graph({"x": X}, {"y": ops.Relu(X)})


def test_an_analysis_is_made_once() -> None:
    graph = of()
    assert graph.analysis(Coupling) is graph.analysis(Coupling)


def test_another_graph_has_another() -> None:
    assert of().analysis(Coupling) is not of().analysis(Coupling)


def test_it_goes_with_its_graph() -> None:
    coupling = weakref.ref(of().analysis(Coupling))
    gc.collect()
    assert coupling() is None
