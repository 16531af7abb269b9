"""The conformance kit: graphs to try a pass on, and what every pass must hold to.

``check_pass(MyPass())`` in a test of yours is all it takes; in pytest, the fixture ``check_pass``
is that function. ``check_removal(graph)`` puts what operators say of their axes to the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from redir.channels.coupling import Coupling
from redir.channels.removal import silenced, spared, without
from redir.check.guarantees import SAME_INTERFACE, SAME_OUTPUTS
from redir.errors import Broken, MissingExtra
from redir.ir import Graph
from redir.ir.rewriter import opened
from redir.pipeline import Pass
from redir.testing import strategies
from redir.testing.duplicates import plant_duplicates
from redir.testing.strategies import graphs
from redir.testing.whole_numbers import whole_number_twin
from redir.text import parse, tensors

try:
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtra("redir.testing", "dev") from error

__all__ = [
    "check_on",
    "check_pass",
    "check_removal",
    "graphs",
    "plant_duplicates",
    "whole_number_twin",
]

_ROUNDS = 5  # of drawing graphs, before a pass is taken for one that never fires


def check_pass(
    pass_: Pass, graphs: st.SearchStrategy[Graph] | None = None, max_examples: int | None = None
) -> None:
    """Try ``pass_`` on drawn graphs: it must keep its promises and the laws, and must fire.

    Args:
        pass_: The pass, with its options.
        graphs: Draws graphs on which it fires; by default graphs of every operator of the kit.
        max_examples: How many to draw; by default what the Hypothesis profile says. Where the pass
            fires on none of them, as many others are drawn, four times at most.

    Raises:
        Broken: a law or promise was refuted, by the graph in the message, or the pass never fired.
    """
    drawn = strategies.graphs() if graphs is None else graphs
    count = max_examples or settings().max_examples
    if not any(_fires(pass_, drawn, count, number) for number in range(_ROUNDS)):
        many = _ROUNDS * count
        raise Broken(f"{pass_} never fired on {many} graphs: draw graphs that it changes")


def _fires(pass_: Pass, graphs: st.SearchStrategy[Graph], max_examples: int, number: int) -> bool:
    """Whether the pass, which must pass every check, changes any of so many graphs.

    Each round, by its ``number``, has other graphs.
    """
    fired: list[bool] = []

    @settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(graphs)
    def contract(graph: Graph) -> None:
        fired.append(check_on(pass_, graph) is not graph)

    (seed(number)(contract) if number else contract)()
    return any(fired)


def check_on(pass_: Pass, graph: Graph) -> Graph:
    """What ``pass_`` makes of one graph, if that keeps its promises and the laws.

    Raises:
        Broken: a law or promise was refuted, or the pass raised an error.
    """
    text = repr(graph)
    try:
        after, again = pass_(graph), pass_(graph, check=True)
        if after is not graph:
            pass_(after)
        why = next(_refuted(pass_, graph, text, (after, again)), None)
    except Exception as error:  # whatever a pass raises refutes it
        why = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        raise Broken(f"{pass_}: {why}\n{text}") from error
    if why is not None:
        raise Broken(f"{pass_}: {why}\n{text}\nbecame\n{after!r}")
    return after


def check_removal(graph: Graph, share: float = 0.5, seed: int = 0) -> Graph:
    """``graph`` without about ``share`` of its free channels, if that is as if they were zero.

    Zeros in all constants of a channel in the full graph must give the outputs of the graph that
    is narrower: so what the operators say of their axes is right, and so is how they follow.

    Raises:
        Broken: the outputs differ, or a narrowed node does not fit.
    """
    coupling, rng = graph.analysis(Coupling), np.random.default_rng(seed)
    every = sorted({int(g) for port in coupling.ports for g in coupling.group(port)})
    chosen = spared(coupling, [g for g in every if rng.random() < share])
    try:
        after = without(coupling, chosen)
        why = SAME_OUTPUTS.refute(silenced(coupling, chosen), after)
    except Exception as error:  # whatever a wrong link leads to
        raise Broken(f"removal: {type(error).__name__}: {error}\n{graph!r}") from error
    if why is not None:
        raise Broken(f"removal: {why}\n{graph!r}\nbecame\n{after!r}")
    return after


def _refuted(pass_: Pass, graph: Graph, text: str, made: tuple[Graph, Graph]) -> Iterator[str]:
    """The laws of the framework, that are not kept by what two runs made."""
    after, again = made
    found = repr(after)
    if repr(graph) != text:
        yield "it wrote to the graph it was given"
    if repr(again) != found:
        yield f"a second run gave something else\n{again!r}"
    if after is not graph and found == text:
        yield "it changed nothing, but gave a copy"
    if _unrepeatable(graph) != _unrepeatable(after):
        yield "a random or unknown operator came or went"
    interface = SAME_INTERFACE.refute(pass_.restated(graph), after)
    if interface is not None:
        yield interface
    arrays = {t.digest: t.array for t in tensors(after)}
    if repr(parse(found, lambda digest, _: arrays[digest])) != found:
        yield "its text reads back as something else"


def _unrepeatable(graph: Graph) -> Counter[str]:
    return Counter(str(n.op) for n in opened(graph).nodes if not (n.repeatable or n.bodies))
