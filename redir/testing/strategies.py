"""Drawing small graphs, of other operators each time, on which passes are tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from redir import ops
from redir.errors import MissingExtra
from redir.ir import Graph, Node, Value
from redir.testing.draft import FLOAT, Draft, Step, channels, ints
from redir.testing.pairs import PAIRS

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise MissingExtra("redir.testing", "dev") from error

_FLOAT, _BOOL = 1, 9  # as a Cast names them

STEPS: dict[str, tuple[int, Step]] = dict(PAIRS)
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
    head = d.pick(_conv, _gemm, None) if last.rank == 4 else d.pick(_gemm, None)  # noqa: PLR2004
    more = draw(st.lists(st.sampled_from(d.values), max_size=d.number(0, 1)))
    wanted = [head(d, last) if head else last, *d.ends, *more]
    return Graph(d.inputs, {f"out{i}": v for i, v in enumerate(wanted)})


def _step(rank: int) -> Callable[[Step], Step]:
    def register(step: Step) -> Step:
        STEPS[step.__name__.strip("_")] = rank, step
        return step

    return register


@_step(4)
def _conv(d: Draft, x: Value) -> Value:
    k, out = d.pick(1, 3), d.number(1, 4)
    return ops.Conv(x, *d.layer(out, channels(x), k, k), pads=(k // 2,) * 4)


@_step(4)
def _depthwise(d: Draft, x: Value) -> Value:
    out = channels(x) * d.pick(1, 2)
    return ops.Conv(x, *d.layer(out, 1, 3, 3), pads=(1, 1, 1, 1))


@_step(4)
def _grouped(d: Draft, x: Value) -> Value:
    groups = 2 - channels(x) % 2
    return ops.Conv(x, d.const(2 * groups, channels(x) // groups, 1, 1))


@_step(4)
def _conv_transpose(d: Draft, x: Value) -> Value:
    out = d.number(1, 3)
    return ops.ConvTranspose(x, *d.layer(channels(x), out, 2, 2, axis=1))


@_step(4)
def _shared_weight(d: Draft, x: Value) -> Value:
    w = d.const(channels(x), channels(x), 1, 1)
    once = ops.Relu(ops.Conv(x, w))
    return ops.Add(ops.Conv(once, w), once) if d.flag() else ops.Add(once, ops.Conv(d.like(x), w))


@_step(4)
def _squeeze_excite(d: Draft, x: Value) -> Value:
    narrow = ops.Relu(_conv(d, ops.GlobalAveragePool(x)))
    return ops.Mul(x, ops.Sigmoid(ops.Conv(narrow, d.const(channels(x), channels(narrow), 1, 1))))


@_step(4)
def _residual(d: Draft, x: Value) -> Value:
    w = d.const(channels(x), channels(x), 3, 3)
    return ops.Add(x, ops.Conv(x, w, *d.bias(channels(x)), pads=(1, 1, 1, 1)))


@_step(4)
def _pool(d: Draft, x: Value) -> Value:
    op = d.pick(ops.MaxPool, ops.AveragePool)
    return op(x, kernel_shape=(2, 2), pads=(1, 1, 1, 1))  # type: ignore[no-any-return]


@_step(4)
def _global_pool(_: Draft, x: Value) -> Value:
    return ops.GlobalAveragePool(x)


@_step(4)
def _channel_pad(d: Draft, x: Value) -> Value:
    before, behind, side = d.number(0, 2), d.number(0, 2), d.number(0, 1)
    return ops.Pad(x, ints(0, before, side, 0, 0, behind, 0, 0), *(d.const(),) * d.flag())


@_step(4)
def _transpose(d: Draft, x: Value) -> Value:
    return ops.Transpose(x, perm=d.pick((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 1, 2, 3)))


@_step(4)
def _reshape(d: Draft, x: Value) -> Value:
    return ops.Reshape(x, d.pick(ints(0, channels(x), -1), ints(0, -1), ints(0, 1, -1)))


@_step(4)
def _split(d: Draft, x: Value) -> Value:
    axis = d.pick(1, 2)
    node = Node(ops.Split, (x,), {"axis": axis, "num_outputs": 2}, arity=2)
    return ops.Concat(*node.outputs[::-1], axis=axis) if (x.type.size(axis) or 0) > 1 else x


@_step(4)
def _attention(d: Draft, x: Value) -> Value:
    heads, size, sides = d.number(1, 2), d.number(1, 3), x.type.shape or ()
    length = int(sides[2]) * int(sides[3])  # type: ignore[arg-type]
    tokens = ops.Transpose(ops.Reshape(x, ints(0, channels(x), -1)), perm=(0, 2, 1))
    fused = ops.MatMul(tokens, d.const(channels(x), 3 * heads * size))
    for bias in d.bias(3 * heads * size):
        fused = ops.Add(fused, bias)
    parts = ops.Reshape(fused, ints(0, length, 3, heads, size))
    each = ops.Transpose(parts, perm=(2, 0, 3, 1, 4))
    q, k, v = (ops.Gather(each, ops.constant(np.array(i))) for i in range(3))
    act = d.pick(ops.Relu, ops.Sign, ops.Identity)
    scores = d.pick(ops.Relu, ops.Hardmax)(ops.MatMul(act(q), ops.Transpose(k, perm=(0, 1, 3, 2))))
    mixed = ops.Transpose(ops.MatMul(scores, v), perm=(0, 2, 1, 3))
    flat = ops.Reshape(mixed, ints(0, length, heads * size))
    return ops.MatMul(flat, d.const(heads * size, d.number(1, 4)))


@_step(4)
def _body(d: Draft, x: Value) -> Value:
    a, b = Value(x.type), Value(x.type)
    branches = {
        "then_branch": Graph({"a": a}, {"y": ops.Relu(a)}),
        "else_branch": Graph({"a": b}, {"y": ops.Neg(b)}),
    }
    condition = ops.constant(np.array(d.flag()))
    return ops.If(condition, x, captures=("a",), **branches)


@_step(0)
def _gemm(d: Draft, x: Value) -> Value:
    x = x if x.rank == 2 else ops.Flatten(x)  # noqa: PLR2004
    out, turned = d.number(1, 4), d.flag()
    shape = (out, channels(x)) if turned else (channels(x), out)
    weight, *bias = d.layer(*shape, axis=1 - turned)
    other = d.bias(*d.pick((1, out), (1,), ()))
    factor = d.pick(1.0, 2.0)
    return ops.Gemm(x, weight, *d.pick(bias, other), transB=int(turned), alpha=factor)


@_step(0)
def _matmul(d: Draft, x: Value) -> Value:
    assert x.rank is not None
    weight, *bias = d.layer(x.type.size(x.rank - 1) or 1, d.number(1, 4), axis=1)
    return ops.Add(ops.MatMul(x, weight), *bias) if bias else ops.MatMul(x, weight)


@_step(4)
def _flatten(_: Draft, x: Value) -> Value:
    return ops.Flatten(x)


@_step(0)
def _batchnorm(d: Draft, x: Value) -> Value:
    vectors = [d.const(channels(x), low=1, high=3) for _ in range(4)]
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
    return ops.PRelu(x, d.const(*d.pick((channels(x), 1, 1), (1,))))


@_step(4)
def _scale(d: Draft, x: Value) -> Value:
    op, shape = d.pick(ops.Mul, ops.Add, ops.Div), (1, channels(x), 1, 1)
    if op == ops.Div:
        by = ops.constant(d.rng.choice([-1, 1], shape).astype(FLOAT))
    else:
        by = d.const(*shape)
    return op(x, by)  # type: ignore[no-any-return]


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
    return ops.Slice(x, ints(0), ints(1), ints(d.pick(1, 2)))


@_step(4)
def _cut(d: Draft, x: Value) -> Value:
    """Some of the channels, half of the time of a layer of which nothing reads the others."""
    x = ops.Relu(_conv(d, x)) if d.flag() else x
    size = channels(x)
    first, some = d.number(0, size - 1), d.rng.integers(-size, size, d.number(1, size))
    one, rest = ints(1), [n for n in (first, size - first) if n]
    parts = Node(ops.Split, (x, ints(*rest)), {"axis": 1}, arity=len(rest)).outputs
    makes: list[Callable[[], Value]] = [
        lambda: ops.Slice(x, ints(first), ints(size), one),
        lambda: ops.Slice(x, ints(first), ints(size), one, ints(2)),
        lambda: ops.Slice(x, ints(first), ints(-9), one, ints(-1)),
        lambda: ops.Slice(ops.Slice(x, ints(first), ints(size), one), ints(0), one, one),
        lambda: ops.Gather(x, ops.constant(some), axis=1),
        lambda: parts[-1],
    ]
    make: Callable[[], Value] = d.pick(*makes)
    return make()


@_step(0)
def _noop(d: Draft, x: Value) -> Value:
    zeros, dims = ints(*[0] * 2 * (x.rank or 0)), ints(*[0] * (x.rank or 0))
    some: list[Callable[[], Value]] = [
        lambda: ops.Identity(x),
        lambda: ops.Dropout(x),
        lambda: ops.Cast(x, to=_FLOAT),
        lambda: ops.Pad(x, zeros),
        lambda: ops.Reshape(x, dims),
        lambda: ops.Concat(x, axis=1),
        lambda: ops.Slice(x, ints(0, -9), ints(9, 2**31 - 1), ints(1, 0)),
        lambda: ops.Split(x, axis=1, num_outputs=1),
    ]
    make: Callable[[], Value] = d.pick(*some)
    return make()


@_step(0)
def _cast(_: Draft, x: Value) -> Value:
    return ops.Cast(ops.Cast(x, to=_BOOL), to=_FLOAT)


@_step(0)
def _computed_shape(d: Draft, x: Value) -> Value:
    axis = d.number(0, (x.rank or 1) - 1)
    place = ops.constant(np.array(axis))
    parts = ops.Unsqueeze(ops.Gather(ops.Shape(x), place), ints(0)), ints(-1)
    return ops.Reshape(x, ops.Concat(*(parts if d.flag() else parts[::-1]), axis=0))


@_step(4)
def _given_size(d: Draft, x: Value) -> Value:
    """A map of the sizes of another, all read of it, or with the number of channels written."""
    shape, size = ops.Shape(d.pick(x, ops.Relu(x))), ints(channels(x))
    parts = ops.Slice(shape, ints(0), ints(1)), size, ops.Slice(shape, ints(2), ints(4))
    goal = d.pick(shape, ops.Concat(*parts, axis=0))
    some: list[Callable[[], Value]] = [
        lambda: ops.ConstantOfShape(goal),
        lambda: ops.Expand(d.const(1, 1, 1), goal),
        lambda: ops.Expand(ops.GlobalMaxPool(x), goal),
        lambda: ops.Reshape(ops.Reshape(x, ints(0, 0, -1)), goal),
    ]
    make: Callable[[], Value] = d.pick(*some)
    return make()


@_step(0)
def _computed_constant(d: Draft, x: Value) -> Value:
    both = ops.Add(d.const(1), ops.Mul(d.const(1), d.const(1)))
    return ops.Add(x, both)


@_step(0)
def _grown_constant(d: Draft, x: Value) -> Value:
    """A vector that takes fewer numbers to compute than to store, or one that is stored anyway."""
    weight, size = d.const(1), x.type.size(-1) or 1
    ends = (ops.constant(np.array(n)) for n in (0, size, 1))
    some: list[Callable[[], Value]] = [
        lambda: ops.Expand(weight, ints(size)),
        lambda: ops.ConstantOfShape(ints(size)),
        lambda: ops.Cast(ops.Range(*ends), to=_FLOAT),
        lambda: ops.Add(weight, ops.Identity(weight)),
        lambda: ops.Reshape(weight, ops.Shape(weight)),
    ]
    make: Callable[[], Value] = d.pick(*some)
    return ops.Add(ops.Reshape(x, ops.Shape(x)) if d.flag() else x, make())


@_step(0)
def _again(d: Draft, x: Value) -> Value:
    node = x.node
    copied = (
        x if node is None or not node.inputs else Node(node.op, node.inputs, node.attrs).outputs[0]
    )
    return ops.Add(copied, x) if d.flag() else ops.Sub(copied, ops.Relu(x))


@_step(0)
def _random(_: Draft, x: Value) -> Value:
    noise = ops.Add(*(ops.RandomNormalLike(x, seed=1.0) for _ in range(2)))
    return ops.Add(x, ops.Mul(noise, ops.constant(np.zeros(1, FLOAT))))


@_step(0)
def _opaque(_: Draft, x: Value) -> Value:
    return ops.opaque("Mix", "custom", 1, [x.type], lambda _, a: [np.flip(a, 1)])(x)
