"""The conformance kit: graphs to try a pass on, and what every pass must hold to.

    def test_my_pass_keeps_its_promises() -> None:
        check_pass(MyPass())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto

from redir import ops
from redir.coupling import Coupling
from redir.errors import Broken, MissingExtra
from redir.guarantees import SAME_INTERFACE
from redir.ir import Array, Graph, Kept, Link, Node, Op, Port, Tensor, TensorType, Value
from redir.ops import tensor_of
from redir.pipeline import Pass
from redir.rewrite import Outputs, transform
from redir.text import parse, tensors

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtra("redir.testing", "dev") from error

FLOAT = np.dtype(np.float32)
Step: TypeAlias = "Callable[[Draft, Value], Value]"


# Checking a pass


def check_pass(
    pass_: Pass, graphs: st.SearchStrategy[Graph] | None = None, max_examples: int | None = None
) -> None:
    """Try ``pass_`` on drawn graphs: it must keep its promises and the laws, and must fire.

    Args:
        pass_: The pass, with its options.
        graphs: Draws graphs on which it fires; by default graphs of every operator of the kit.
        max_examples: How many to draw; by default what the Hypothesis profile says.

    Raises:
        Broken: a law or promise was refuted, by the graph in the message, or the pass never fired.
    """
    fired: list[bool] = []
    some = {} if max_examples is None else {"max_examples": max_examples}

    @settings(
        settings(),
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        **some,
    )
    @given(drawn() if graphs is None else graphs)
    def contract(graph: Graph) -> None:
        fired.append(check_on(pass_, graph) is not graph)

    contract()
    if not any(fired):
        raise Broken(f"{pass_} never fired on {len(fired)} graphs: draw graphs that it changes")


def check_on(pass_: Pass, graph: Graph) -> Graph:
    """What ``pass_`` makes of one graph, if that keeps its promises and the laws.

    Raises:
        Broken: a law or promise was refuted, or the pass raised an error.
    """
    text = str(graph)
    try:
        after, again = pass_(graph), pass_(graph, check=True)
        pass_(after)
        why = next(_refuted(graph, text, after, again), None)
    except Exception as error:  # whatever a pass raises refutes it
        why = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        raise Broken(f"{pass_}: {why}\n{text}") from error
    if why is not None:
        raise Broken(f"{pass_}: {why}\n{text}\nbecame\n{after}")
    return after


def _refuted(graph: Graph, text: str, after: Graph, again: Graph) -> Iterator[str]:
    """The laws of the framework, that are not kept."""
    found = str(after)
    if str(graph) != text:
        yield "it wrote to the graph it was given"
    if str(again) != found:
        yield f"a second run gave something else\n{again}"
    if after is not graph and found == text:
        yield "it changed nothing, but gave a copy"
    if _unrepeatable(graph) != _unrepeatable(after):
        yield "a random or unknown operator came or went"
    interface = SAME_INTERFACE.refute(graph, after)
    if interface is not None:
        yield interface
    arrays = {t.digest: t.array for t in tensors(after)}
    if str(parse(found, lambda digest, _: arrays[digest])) != found:
        yield "its text reads back as something else"


def _unrepeatable(graph: Graph) -> Counter[str]:
    return Counter(str(n.op) for n in graph.nodes if not (n.repeatable or n.bodies))


# Drawing graphs


class Draft:
    """A graph that is being drawn: the ``values`` so far, on which a step builds."""

    def __init__(self, draw: st.DrawFn) -> None:
        """Draw the inputs."""
        self.draw = draw
        self.rng = np.random.default_rng(self.number(0, 999))
        batch = self.pick("n", 1, 2)
        sides = self.pick((3, 3), (1, 1), (5, 2), (4, 4), (7, 1))
        self.inputs = {
            name: Value(TensorType(FLOAT, (batch, self.number(1, 4), *sides)))
            for name in self.pick(["x"], ["x", "y"])
        }
        self.values, self.ends = list(self.inputs.values()), list[Value]()

    def pick(self, *these: Any) -> Any:
        """One of ``these``."""
        return self.draw(st.sampled_from(these))

    def number(self, low: int, high: int) -> int:
        """A number between two, which may be either."""
        return self.draw(st.integers(low, high))

    def const(self, *shape: int, low: int = -1, high: int = 1, like: Op | None = None) -> Value:
        """A constant of small whole numbers, half of the time with slices that are equal."""
        array = self.rng.integers(low, high + 1, shape).astype(FLOAT)
        if shape and self.rng.random() < 0.5:  # noqa: PLR2004 - half of the time
            array = array[self.rng.integers(0, shape[0], shape[0])]
        return (like or ops.Const)(value=Tensor(array))

    def bias(self, *shape: int) -> list[Value]:
        """The operand that adds a constant, or none."""
        return self.pick([], [self.const(*shape)])  # type: ignore[no-any-return]

    def like(self, x: Value) -> Value:
        """A value of the same type: ``x`` itself where there is no other."""
        return self.pick(*[v for v in self.values if v.type == x.type][::-1])  # type: ignore[no-any-return]

    def add(self, value: Value) -> None:
        """Build on ``value``, or only return it, where its sizes are not known."""
        known = value.rank and all(value.type.size(a) for a in range(1, value.rank))
        (self.values if known and value.type.dtype == FLOAT else self.ends).append(value)


STEPS: dict[str, tuple[int, Step]] = {}
"""By name: the rank that the operand must have (0 for any), and what is built on it."""


def _step(rank: int) -> Callable[[Step], Step]:
    def register(step: Step) -> Step:
        STEPS[step.__name__.strip("_")] = rank, step
        return step

    return register


@st.composite
def drawn(draw: st.DrawFn, *always: str, steps: int = 8) -> Graph:
    """Small graphs of a few of the ``STEPS``, of another few in each; with ``always`` among them.

    Weights are small whole numbers, so that outputs can be compared with ``==``.
    """
    d = Draft(draw)
    some = draw(st.lists(st.sampled_from(sorted(STEPS)), min_size=not always, max_size=6, unique=True))
    for name in draw(st.lists(st.sampled_from([*always, *some]), min_size=1, max_size=steps)):
        rank, step = STEPS[name]
        x = d.values[-1 - d.number(0, min(2, len(d.values) - 1))]
        if rank in (0, x.rank):
            d.add(step(d, x))
    last = d.values[-1]
    head = {4: _conv, 2: _gemm}.get(last.rank or 0)
    wanted = [head(d, last) if head and d.pick(True, False) else last, *d.ends]  # noqa: FBT003
    more = draw(st.lists(st.sampled_from(d.values), max_size=2))
    return Graph(d.inputs, {f"out{i}": v for i, v in enumerate([*wanted, *more])})


graphs = drawn


def _channels(x: Value) -> int:
    return x.type.size(1) or 1


def _ints(*numbers: int) -> Value:
    return ops.Const(value=Tensor(np.array(numbers, np.int64)))


@_step(4)
def _conv(d: Draft, x: Value) -> Value:
    k, out = d.pick(1, 3), d.number(1, 4)
    return ops.Conv(x, d.const(out, _channels(x), k, k), *d.bias(out), pads=(k // 2,) * 4)


@_step(4)
def _depthwise(d: Draft, x: Value) -> Value:
    out = _channels(x) * d.pick(1, 2)
    return ops.Conv(x, d.const(out, 1, 3, 3), *d.bias(out), pads=(1, 1, 1, 1))


@_step(4)
def _grouped(d: Draft, x: Value) -> Value:
    groups = 2 - _channels(x) % 2
    return ops.Conv(x, d.const(2 * groups, _channels(x) // groups, 1, 1))


@_step(4)
def _conv_transpose(d: Draft, x: Value) -> Value:
    out = d.number(1, 3)
    return ops.ConvTranspose(x, d.const(_channels(x), out, 2, 2), *d.bias(out))


@_step(4)
def _shared(d: Draft, x: Value) -> Value:
    w = d.const(_channels(x), _channels(x), 1, 1)
    inner = ops.Conv(x, w)
    return ops.Conv(ops.Relu(inner), w) if d.pick(True, False) else ops.Add(inner, ops.Conv(x, w))  # noqa: FBT003


@_step(4)
def _squeeze_excite(d: Draft, x: Value) -> Value:
    squeezed = _conv(d, ops.GlobalAveragePool(x))
    w = d.const(_channels(x), _channels(squeezed), 1, 1)
    return ops.Mul(x, ops.Sigmoid(ops.Conv(ops.Relu(squeezed), w)))


@_step(4)
def _residual(d: Draft, x: Value) -> Value:
    w = d.const(_channels(x), _channels(x), 3, 3)
    return ops.Add(x, ops.Conv(x, w, *d.bias(_channels(x)), pads=(1, 1, 1, 1)))


@_step(0)
def _batch_norm(d: Draft, x: Value) -> Value:
    c, positive = _channels(x), d.const((x.type.size(1) or 1) if x.rank != 1 else 1, low=1, high=3)
    if x.rank not in (2, 3, 4):
        return x
    return ops.BatchNormalization(x, d.const(c), d.const(c), d.const(c), positive)
