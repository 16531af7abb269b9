"""Rules for recurrent layers, whose gates ONNX keeps in another order than PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redir import ops
from redir.frontends.torch.call import ABSENT, RULES, Call, NotLowered, Rule, aten, whole
from redir.ir import Attr, Node, Source, Value
from redir.ir.tensor import Array, Dim, Tensor
from redir.ops import tensor_of

_BATCHED = 3  # axes: places, examples, channels


@dataclass(frozen=True)
class _Kind:
    """A recurrent operator of ONNX: its ``gates`` by their places in PyTorch, its attributes."""

    name: str
    gates: tuple[int, ...]
    attrs: tuple[tuple[str, Attr], ...] = ()


_KINDS = {
    "lstm": _Kind("LSTM", (0, 3, 1, 2)),
    "gru": _Kind("GRU", (1, 0, 2), (("linear_before_reset", 1),)),
    "rnn_tanh": _Kind("RNN", (0,)),
    "rnn_relu": _Kind("RNN", (0,), (("activations", "Relu"),)),
}


def _rule(kind: _Kind) -> Rule:
    def rule(
        c: Call,
        x: Value,
        states: Value | Sequence[Value],
        params: Sequence[Value],
        biased: bool,
        layers: int,
        dropped: float,
        train: bool,
        both: bool,
        batch_first: bool,
    ) -> tuple[Value, ...]:
        if train and dropped:
            raise c.refusal("it drops at random: call eval() on the module first")
        ways = 2 if both else 1
        each = len(params) // layers
        if c.rank(x) != _BATCHED or each != ways * (4 if biased else 2):
            raise NotLowered
        given = [states] if isinstance(states, Value) else list(states)
        x = c.transpose(x, (1, 0, 2)) if batch_first else x
        last: list[list[Value]] = []
        for layer in range(layers):
            own = params[layer * each : (layer + 1) * each]
            first = [c.cut(s, 0, layer * ways, (layer + 1) * ways) for s in given]
            x, *ends = _layer(c, kind, x, first if layers > 1 else given, own, ways)
            last.append(ends)
        y = c.transpose(x, (1, 0, 2)) if batch_first else x
        return (y, *(_joined(c, parts) for parts in zip(*last, strict=True)))

    return rule


def _joined(c: Call, parts: Sequence[Value]) -> Value:
    return parts[0] if len(parts) == 1 else c.op("Concat", *parts, axis=0)


def _layer(
    c: Call, kind: _Kind, x: Value, states: Sequence[Value], params: Sequence[Value], ways: int
) -> tuple[Value, ...]:
    """One layer in one or both directions: what it gives at each place, and its last states."""
    per_way = len(params) // ways
    by_sort = [params[i::per_way] for i in range(per_way)]
    weights, repeated = (_turned(kind, part) for part in by_sort[:2])
    bias = _biases(kind, by_sort[2], by_sort[3]) if by_sort[2:] else ABSENT
    size = repeated.type.size(2) or 0
    attrs = dict(kind.attrs)
    if "activations" in attrs:
        attrs["activations"] = (attrs["activations"],) * ways
    if ways > 1:
        attrs["direction"] = "bidirectional"
    operands = (x, weights, repeated, bias, ABSENT, *states)
    y, *ends = c.several(kind.name, 1 + len(states), *operands, hidden_size=size, **attrs)
    places, examples, _ = c.shape(x)
    c.shapes[y] = (places, ways, examples, size)
    if ways == 1:
        return (c.squeeze(y, 1), *ends)
    return (c.reshape(c.transpose(y, (0, 2, 1, 3)), (places, examples, ways * size)), *ends)


def _array(kind: _Kind, value: Value) -> Array:
    """A parameter with its gates in the order of ONNX."""
    held = tensor_of(value)
    if held is None:
        raise NotLowered
    parts = np.split(held.array, len(kind.gates))
    return np.concatenate([parts[gate] for gate in kind.gates])


def _turned(kind: _Kind, params: Sequence[Value]) -> Value:
    """The same parameter of each direction, as one constant."""
    return _named(np.stack([_array(kind, p) for p in params]), params[0])


def _biases(kind: _Kind, ours: Sequence[Value], theirs: Sequence[Value]) -> Value:
    """The biases of the input and of the state behind each other, for each direction."""
    pairs = zip(ours, theirs, strict=True)
    joined = [np.concatenate([_array(kind, p) for p in pair]) for pair in pairs]
    return _named(np.stack(joined), ours[0])


def _named(array: Array, param: Value) -> Value:
    """A constant made of a parameter and others like it: by its name, frozen if it is."""
    node, attrs = param.node, {"value": Tensor.take(array)}
    notes = node.source.metadata if node is not None and node.source is not None else ()
    source = Source(outputs=(node.name if node is not None else "",), metadata=notes)
    return Node(ops.Const, (), attrs, source=source).outputs[0]


RULES.update({f"{name}.input": _rule(kind) for name, kind in _KINDS.items()})


@aten("gru_cell")
def _gru_cell(c: Call, x: Value, state: Value, *params: Value | None) -> Value:
    ours, theirs = _gates(c, x, state, params)
    size = c.dims[1]
    (r, z, n), (of_r, of_z, of_n) = _parts(c, ours, size, 3), _parts(c, theirs, size, 3)
    reset = c.op("Sigmoid", c.op("Add", r, of_r))
    kept = c.op("Sigmoid", c.op("Add", z, of_z))
    new = c.op("Tanh", c.op("Add", n, c.op("Mul", reset, of_n)))
    return c.main("Add", new, c.op("Mul", kept, c.op("Sub", state, new)))


@aten("lstm_cell")
def _lstm_cell(
    c: Call, x: Value, states: Sequence[Value], *params: Value | None
) -> tuple[Value, ...]:
    state, memory = states
    i, f, g, o = _parts(c, c.op("Add", *_gates(c, x, state, params)), c.dims[1], 4)
    kept = c.op("Mul", c.op("Sigmoid", f), memory)
    memory = c.op("Add", kept, c.op("Mul", c.op("Sigmoid", i), c.op("Tanh", g)))
    return c.main("Mul", c.op("Sigmoid", o), c.op("Tanh", memory)), memory


@aten("rnn_tanh_cell")
def _rnn_tanh_cell(c: Call, x: Value, state: Value, *params: Value | None) -> Value:
    return c.main("Tanh", c.op("Add", *_gates(c, x, state, params)))


@aten("rnn_relu_cell")
def _rnn_relu_cell(c: Call, x: Value, state: Value, *params: Value | None) -> Value:
    return c.main("Relu", c.op("Add", *_gates(c, x, state, params)))


def _gates(c: Call, x: Value, state: Value, params: Sequence[Value | None]) -> tuple[Value, Value]:
    """What the input and the state each add to the gates of a cell."""
    of_x, of_state, *biases = (ABSENT if p is None else p for p in params)
    ours, theirs = biases or (ABSENT, ABSENT)
    return (
        c.op("Gemm", x, of_x, ours, transB=1),
        c.op("Gemm", state, of_state, theirs, transB=1),
    )


def _parts(c: Call, gates: Value, size: Dim, count: int) -> list[Value]:
    width = whole(size)
    return [c.cut(gates, 1, k * width, (k + 1) * width) for k in range(count)]
