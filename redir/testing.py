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
from redir.ir import Array, Graph, Link, Node, Port, Tensor, TensorType, Value
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
    @given(_drawn((), 8) if graphs is None else graphs)
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
        batch, sides = self.pick("n", 1, 2), self.pick((3, 3), (1, 1), (5, 2), (4, 4), (7, 1))
        self.inputs = {
            name: Value(TensorType(FLOAT, (batch, self.number(1, 4), *sides)))
            for name in self.pick("x", "xy")
        }
        self.values, self.ends = list(self.inputs.values()), list[Value]()

    def pick(self, *these: Any) -> Any:
        """One of ``these``."""
        return self.draw(st.sampled_from(these))

    def number(self, low: int, high: int) -> int:
        """A number between two, which may be either."""
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        """True or False."""
        return self.draw(st.booleans())

    def const(self, *shape: int, low: int = -1, high: int = 1) -> Value:
        """A constant of small whole numbers, half of the time with slices that are equal."""
        array = self.rng.integers(low, high + 1, shape).astype(FLOAT)
        if shape and self.rng.integers(2):
            array = array[self.rng.integers(0, shape[0], shape[0])]
        return ops.Const(value=Tensor(array))

    def bias(self, *shape: int) -> list[Value]:
        """A constant to add, or none."""
        return [self.const(*shape)] if self.flag() else []

    def like(self, x: Value) -> Value:
        """A value of the type of ``x``: itself where there is no other."""
        found: Value = self.pick(*[v for v in self.values if v.type == x.type][::-1])
        return found

    def add(self, value: Value) -> None:
        """Build on ``value``, or only return it, where its sizes are not known."""
        known = all(value.type.size(a) for a in range(1, value.rank or 0))
        fits = (value.rank or 0) > 1 and known and value.type.dtype == FLOAT
        (self.values if fits else self.ends).append(value)


STEPS: dict[str, tuple[int, Step]] = {}
"""By name: the rank that the operand must have (0 for any), and what is built on it."""


def graphs(*always: str, steps: int = 8) -> st.SearchStrategy[Graph]:
    """Small graphs of a few of the ``STEPS``, of other ones in each, ``always`` among them.

    Weights are small whole numbers, so that outputs can be compared with ``==``.
    """
    return _drawn(always, steps)


@st.composite
def _drawn(draw: st.DrawFn, always: Sequence[str], steps: int) -> Graph:
    d, every = Draft(draw), st.sampled_from(sorted(STEPS))
    swarm = [*always, *draw(st.lists(every, min_size=not always, max_size=6, unique=True))]
    for name in draw(st.lists(st.sampled_from(swarm), min_size=1, max_size=steps)):
        rank, step = STEPS[name]
        x = d.values[-1 - d.number(0, min(2, len(d.values) - 1))]
        if rank in (0, x.rank):
            d.add(step(d, x))
    last = d.values[-1]
    head = (_conv if last.rank == 4 and d.flag() else _gemm) if d.flag() else None
    more = draw(st.lists(st.sampled_from(d.values), max_size=2))
    wanted = [head(d, last) if head else last, *d.ends, *more]
    return Graph(d.inputs, {f"out{i}": v for i, v in enumerate(wanted)})


def _step(rank: int) -> Callable[[Step], Step]:
    def register(step: Step) -> Step:
        STEPS[step.__name__.strip("_")] = rank, step
        return step

    return register


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
def _shared_weight(d: Draft, x: Value) -> Value:
    w = d.const(_channels(x), _channels(x), 1, 1)
    once = ops.Relu(ops.Conv(x, w))
    return ops.Add(ops.Conv(once, w), once) if d.flag() else ops.Add(once, ops.Conv(d.like(x), w))


@_step(4)
def _squeeze_excite(d: Draft, x: Value) -> Value:
    narrow = ops.Relu(_conv(d, ops.GlobalAveragePool(x)))
    return ops.Mul(x, ops.Sigmoid(ops.Conv(narrow, d.const(_channels(x), _channels(narrow), 1, 1))))


@_step(4)
def _residual(d: Draft, x: Value) -> Value:
    w = d.const(_channels(x), _channels(x), 3, 3)
    return ops.Add(x, ops.Conv(x, w, *d.bias(_channels(x)), pads=(1, 1, 1, 1)))


@_step(4)
def _pool(d: Draft, x: Value) -> Value:
    op = d.pick(ops.MaxPool, ops.AveragePool)
    pads = d.pick((1, 1, 1, 1), (1, 1, 0, 0), (0, 0, 1, 1))
    return op(x, kernel_shape=(2, 2), pads=pads)  # type: ignore[no-any-return]


@_step(4)
def _global_pool(_: Draft, x: Value) -> Value:
    return ops.GlobalAveragePool(x)


@_step(4)
def _channel_pad(d: Draft, x: Value) -> Value:
    before, behind = d.number(0, 2), d.number(0, 2)
    return ops.Pad(x, _ints(0, before, 0, 0, 0, behind, 0, 0), *(d.const(),) * d.flag())


@_step(4)
def _transpose(d: Draft, x: Value) -> Value:
    return ops.Transpose(x, perm=d.pick((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 1, 2, 3)))


@_step(4)
def _reshape(d: Draft, x: Value) -> Value:
    return ops.Reshape(x, d.pick(_ints(0, _channels(x), -1), _ints(0, -1), _ints(0, 1, -1)))


@_step(4)
def _split(d: Draft, x: Value) -> Value:
    axis = d.pick(1, 2)
    node = Node(ops.Split, (x,), {"axis": axis, "num_outputs": 2}, arity=2)
    return ops.Concat(*node.outputs[::-1], axis=axis) if (x.type.size(axis) or 0) > 1 else x


@_step(4)
def _body(d: Draft, x: Value) -> Value:
    a, b = Value(x.type), Value(x.type)
    branches = {
        "then_branch": Graph({"a": a}, {"y": ops.Relu(a)}),
        "else_branch": Graph({"a": b}, {"y": ops.Neg(b)}),
    }
    condition = ops.Const(value=Tensor(np.array(d.flag())))
    return ops.If(condition, x, captures=("a",), **branches)


@_step(0)
def _gemm(d: Draft, x: Value) -> Value:
    x = x if x.rank == 2 else ops.Flatten(x)  # noqa: PLR2004
    out, turned = d.number(1, 4), d.flag()
    shape = (out, _channels(x)) if turned else (_channels(x), out)
    bias = d.bias(*d.pick((out,), (1, out), (1,), ()))
    return ops.Gemm(x, d.const(*shape), *bias, transB=int(turned))


@_step(0)
def _matmul(d: Draft, x: Value) -> Value:
    assert x.rank is not None
    return ops.MatMul(x, d.const(x.type.size(x.rank - 1) or 1, d.number(1, 4)))


@_step(4)
def _flatten(_: Draft, x: Value) -> Value:
    return ops.Flatten(x)


@_step(0)
def _batchnorm(d: Draft, x: Value) -> Value:
    vectors = [d.const(_channels(x), low=1, high=3) for _ in range(4)]
    return ops.BatchNormalization(x, *vectors, epsilon=d.pick(1e-5, 1.0))


@_step(0)
def _activation(d: Draft, x: Value) -> Value:
    op = d.pick(ops.Relu, ops.Sigmoid, ops.Neg)
    return op(x)  # type: ignore[no-any-return]


@_step(0)
def _leaky_relu(d: Draft, x: Value) -> Value:
    return ops.LeakyRelu(x, alpha=d.pick(0.5, 2.0))


@_step(4)
def _prelu(d: Draft, x: Value) -> Value:
    return ops.PRelu(x, d.const(*d.pick((_channels(x), 1, 1), (1,))))


@_step(4)
def _scale(d: Draft, x: Value) -> Value:
    op = d.pick(ops.Mul, ops.Add)
    return op(x, d.const(1, _channels(x), 1, 1))  # type: ignore[no-any-return]


@_step(0)
def _arithmetic(d: Draft, x: Value) -> Value:
    op, pair = d.pick(ops.Add, ops.Sub, ops.Max), (x, d.like(x))
    return op(*(pair if d.flag() else pair[::-1]))  # type: ignore[no-any-return]


@_step(0)
def _gate(d: Draft, x: Value) -> Value:
    return ops.Mul(x, ops.Sign(d.like(x)))


@_step(4)
def _concat(d: Draft, x: Value) -> Value:
    return ops.Concat(x, d.like(x), axis=d.pick(1, 2))


@_step(4)
def _slice(d: Draft, x: Value) -> Value:
    return ops.Slice(x, _ints(0), _ints(1), _ints(d.pick(1, 2)))


@_step(0)
def _noop(d: Draft, x: Value) -> Value:
    zeros, dims = _ints(*[0] * 2 * (x.rank or 0)), _ints(*[0] * (x.rank or 0))
    some: list[Callable[[], Value]] = [
        lambda: ops.Identity(x),
        lambda: ops.Dropout(x),
        lambda: ops.Cast(x, to=TensorProto.FLOAT),
        lambda: ops.Pad(x, zeros),
        lambda: ops.Reshape(x, dims),
        lambda: ops.Concat(x, axis=1),
    ]
    make: Callable[[], Value] = d.pick(*some)
    return make()


@_step(0)
def _cast(_: Draft, x: Value) -> Value:
    return ops.Cast(ops.Cast(x, to=TensorProto.BOOL), to=TensorProto.FLOAT)


@_step(0)
def _computed_shape(d: Draft, x: Value) -> Value:
    axis = d.number(0, (x.rank or 1) - 1)
    size = ops.Unsqueeze(ops.Gather(ops.Shape(x), _ints(axis)), _ints(0))
    target = ops.Concat(ops.Squeeze(size, _ints(0)), _ints(-1), axis=0)
    return ops.Reshape(x, target)


@_step(0)
def _computed_constant(d: Draft, x: Value) -> Value:
    both = ops.Add(d.const(1), ops.Mul(d.const(1), d.const(1)))
    return ops.Add(x, both)


@_step(0)
def _again(d: Draft, x: Value) -> Value:
    node = x.node
    copied = x if node is None or not node.inputs else Node(node.op, node.inputs, node.attrs).outputs[0]
    return ops.Add(copied, x) if d.flag() else ops.Sub(copied, ops.Relu(x))


@_step(0)
def _random(d: Draft, x: Value) -> Value:
    noise = ops.Add(*(ops.RandomNormalLike(x, seed=1.0) for _ in range(2)))
    return ops.Add(x, ops.Mul(noise, ops.Const(value=Tensor(np.zeros(1, FLOAT)))))


@_step(0)
def _opaque(_: Draft, x: Value) -> Value:
    return ops.opaque("Mix", "custom", 1, [x.type], lambda _, a: [np.flip(a, 1)])(x)


# Planting what merge must find

Layout: TypeAlias = "list[tuple[int, int]]"  # in order, the old channel and the number of its copy


def plant_duplicates(graph: Graph, share: float, seed: int) -> Graph:
    """``graph`` with copies of about ``share`` of its free channels, and the same outputs.

    Every slice that makes a channel is copied, and every weight that reads it is split at random
    among the copies. A family whose order of channels cannot be followed is left as it is.
    """
    rng, coupling = np.random.default_rng(seed), Coupling(graph)
    layouts: dict[Port, Layout] = {}
    for family in coupling.families():
        groups = {int(g) for port in family for g in coupling.group(port)} - coupling.pinned
        copies = {g: int(rng.integers(2, 4)) for g in sorted(groups) if rng.random() < share}
        layouts.update(_layouts(coupling, family, copies) or {})
    return _planted(coupling, layouts, rng)


def _layouts(
    coupling: Coupling, family: list[Port], copies: dict[int, int]
) -> dict[Port, Layout] | None:
    """The new channels of each port of a family; None where they would contradict each other."""
    found: dict[Port, Layout] = {}
    for port in (p for p in family if tensor_of(p[0]) is None):
        groups = coupling.group(port).tolist()
        free = [(i, c) for i, g in enumerate(groups) for c in range(copies.get(g, 1))]
        links = [k for node, k in coupling.links_of(port) if node is port[0].node and not k.summed]
        found[port] = _moved(port, links, found) or free
        if sorted(found[port]) != free:
            return None
    for port in (p for p in family if tensor_of(p[0]) is not None):
        for _, link in coupling.links_of(port):
            other = found.get(link.a if link.b == port else link.b)
            straight = np.array_equal(link.index, np.arange(link.index.size))
            if other is None or found.setdefault(port, other) != other or not straight:
                return None
    return found


def _moved(port: Port, links: list[Link], found: dict[Port, Layout]) -> Layout:
    """The layout of a result by those of its operands; none where they leave it free."""
    parts: dict[int, Layout] = {}
    for link in links:
        operand = found.get(link.a if link.b == port else link.b)
        if operand is None or not link.index.size:
            continue
        part = _blocks(link, operand) if link.a == port else operand
        start = int(link.index[0]) if link.b == port else 0
        shifted = [(start + i, c) for i, c in part]
        if len(parts.setdefault(start, shifted)) <= len(shifted):
            parts[start] = shifted
    covered = {i for part in parts.values() for i, _ in part}
    rest = {i: [(i, 0)] for i in range(port[0].type.size(port[1]) or 0) if i not in covered}
    whole = sorted({**rest, **parts}.items())
    return [channel for _, part in whole for channel in part] if parts else []


def _blocks(link: Link, operand: Layout) -> Layout:
    """For each channel of ``operand`` the block of channels that ``link`` makes of it."""
    count = int(link.index.max()) + 1
    inner = int(np.argmax(link.index != link.index[0])) or link.index.size // count
    outer = link.index.size // (inner * count)
    steps = [(o * count, i, c) for o in range(outer) for i, c in operand]
    return [((start + i) * inner + k, c) for start, i, c in steps for k in range(inner)]


def _planted(coupling: Coupling, layouts: dict[Port, Layout], rng: np.random.Generator) -> Graph:
    sources = {port: np.array([i for i, _ in layout]) for port, layout in layouts.items()}
    kept = {p: s for p, s in sources.items() if s.size > (p[0].type.size(p[1]) or 0)}
    touched = {value for value, _ in kept}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Outputs | None:
        if touched.isdisjoint((*node.inputs, *node.outputs)):
            return None
        tensor = tensor_of(node.outputs[0])
        if tensor is None:
            return node.op.narrow(node, inputs, kept).outputs
        array, ports = tensor.array, [p for p in kept if p[0] is node.outputs[0]]
        for port in sorted(ports, key=lambda p: p not in coupling.summed):  # before rows are copied
            array = _copied(array, port[1], kept[port], rng if port in coupling.summed else None)
        return replace(node, attrs={"value": Tensor.take(array)}).outputs

    return transform(coupling.graph, visit)


def _copied(array: Array, axis: int, source: Array, rng: np.random.Generator | None) -> Array:
    """The slices ``source`` of ``array``; with ``rng``, those of one slice add up to it."""
    copied = array.take(source, axis)
    if rng is None:
        return copied
    parts, total = rng.uniform(0.5, 1.5, copied.shape), np.zeros(array.shape)
    np.add.at(np.moveaxis(total, axis, 0), source, np.moveaxis(parts, axis, 0))
    return (copied * (parts / total.take(source, axis))).astype(array.dtype)
