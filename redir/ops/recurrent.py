"""LSTM, GRU and RNN: a hidden unit has a row for every gate, and all units read it next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redir.errors import Unsupported
from redir.ir import Attr, Link, Node, Port, Value
from redir.ir.builtin import is_absent
from redir.ir.tensor import Array
from redir.ops.links import contracted

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_RANK = 3  # of X, W and R, unless the file is damaged
_OPERANDS = 8  # X, W, R, B, sequence_lens, initial_h, initial_c, P


def implied(node: Node) -> dict[str, Attr]:
    """The number of hidden units is the last size of the recurrent weights."""
    shape = node.inputs[2].type.shape or ()
    size = shape[2] if len(shape) == _RANK else None
    return {"hidden_size": size} if isinstance(size, int) else {}


def links(node: Node) -> Iterator[Link]:
    """The hidden units, the features that are read and the examples; directions stay."""
    fits = all(v.rank in {None, _RANK} for v in node.inputs[:3])
    if fits and node.attrs.get("layout", 0) == 0 and "hidden_size" not in node.attrs:
        yield from _units(node)
        yield from _examples(node)
        yield from contracted(node.inputs[0], 2, node.inputs[1], 2)


def _units(node: Node) -> Iterator[Link]:
    """Unit h is row h of each gate, and place h of each state."""
    _, w, r, b, _, *states, p = _operands(node)
    gates, y, size = _GATES[node.op.name], node.outputs[0], node.inputs[2].type.size(2)
    stacked = [(w, gates), (r, gates), (b, 2 * gates), (p, 3)]
    rows: list[tuple[Port, int]] = [((v, 1), n) for v, n in stacked if v is not None]
    rows += [((v, 2), 1) for v in states if v is not None]
    found = list(_rows(rows, [(y, 3), *((v, 2) for v in node.outputs[1:])], size))
    yield from found
    if found:
        yield from contracted(y, 3, node.inputs[2], 2)


def _examples(node: Node) -> Iterator[Link]:
    """The examples of a batch do not meet."""
    x, _, _, _, lengths, *states, _ = _operands(node)
    places = [(x, 1), (lengths, 0), *((state, 1) for state in states)]
    rows: list[tuple[Port, int]] = [((v, a), 1) for v, a in places if v is not None]
    y, *last = node.outputs
    yield from _rows(rows, [(y, 2), *((v, 1) for v in last)], y.type.size(2))


def _rows(
    rows: Sequence[tuple[Port, int]], ends: Sequence[Port], size: int | None
) -> Iterator[Link]:
    """Tie each end to so many runs of ``size`` rows, if all are of that size."""
    counts = [*rows, *((end, 1) for end in ends)]
    if size is None or any(v.type.size(a) != count * size for (v, a), count in counts):
        return
    for end in ends:
        for port, count in rows:
            yield Link(port, end, np.arange(count * size) % size)


def _operands(node: Node) -> list[Value | None]:
    """The operands by the places that they have in an LSTM; None for those not given."""
    given = [None if is_absent(v) else v for v in node.inputs]
    return given + [None] * (_OPERANDS - len(given))


# What they compute


def evaluate(node: Node, *arrays: Any) -> Sequence[Any]:
    """The state at every step, and the last one of each kind.

    The kernels of ``onnx.reference`` leave out the lengths, the activations and the clipping.

    Raises:
        Unsupported: an activation has parameters of its own.
    """
    missing: tuple[Any, ...] = (None,) * (_OPERANDS - len(arrays))
    x, w, r, b, lengths, h, c, p = arrays + missing
    turned = bool(node.attrs.get("layout", 0))
    if turned:
        x, h, c = (None if a is None else a.swapaxes(0, 1) for a in (x, h, c))
    directions, _, size = r.shape
    start = np.zeros((directions, x.shape[1], size), x.dtype)
    h, c = (start if state is None else state for state in (h, c))
    b = np.zeros((directions, 2 * w.shape[1]), x.dtype) if b is None else b
    p = np.zeros((directions, 3 * size), x.dtype) if p is None else p
    found = []
    for d in range(directions):
        cell = _Cell(node, w[d], r[d], b[d], p[d], _activations(node, d, directions))
        back = d == 1 or node.attrs.get("direction", "forward") == "reverse"
        found.append(_run(cell, x, lengths, (h[d], c[d]), back=back))
    y = np.stack([ys for ys, _, _ in found], 1)
    last = [np.stack(states) for states in zip(*(states for _, *states in found), strict=True)]
    if turned:
        y, last = y.transpose(2, 0, 1, 3), [state.swapaxes(0, 1) for state in last]
    return [a.astype(x.dtype) for a in (y, *last)][: node.arity]


@dataclass(frozen=True)
class _Cell:
    """The weights and the functions of one direction."""

    node: Node
    w: Array
    r: Array
    b: Array
    p: Array
    functions: Sequence[Callable[[Array], Array]]

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """The hidden and the cell state after another step."""
        steps = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}
        return steps[self.node.op.name](x, h, c)

    def _rnn(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        wb, rb = np.split(self.b, 2)
        return self._function(0, x @ self.w.T + h @ self.r.T + wb + rb), c

    def _gru(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        size = h.shape[-1]
        wb, rb = np.split(self.b, 2)
        read, own = x @ self.w.T + wb, h @ self.r[: 2 * size].T + rb[: 2 * size]
        gates = self._function(0, read[:, : 2 * size] + own)
        update, reset = np.split(gates, 2, -1)
        last = self.r[2 * size :].T
        if self.node.attrs.get("linear_before_reset", 0):
            own = reset * (h @ last + rb[2 * size :])
        else:
            own = (reset * h) @ last + rb[2 * size :]
        new = self._function(1, read[:, 2 * size :] + own)
        return (1 - update) * new + update * h, c

    def _lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        wb, rb = np.split(self.b, 2)
        into, out, keep, new = np.split(x @ self.w.T + h @ self.r.T + wb + rb, 4, -1)
        p_into, p_out, p_keep = np.split(self.p, 3)
        into = self._function(0, into + p_into * c)
        coupled = self.node.attrs.get("input_forget", 0)
        keep = 1 - into if coupled else self._function(0, keep + p_keep * c)
        c = keep * c + into * self._function(1, new)
        return self._function(0, out + p_out * c) * self.functions[2](c), c

    def _function(self, place: int, x: Array) -> Array:
        bound = self.node.attrs.get("clip")
        return self.functions[place](x if bound is None else np.clip(x, -bound, bound))


def _run(
    cell: _Cell, x: Array, lengths: Array | None, states: tuple[Array, Array], *, back: bool
) -> tuple[Array, Array, Array]:
    """The hidden state after each step, zero behind the end, and both states at the last."""
    h, c = states
    ys = np.zeros((len(x), *h.shape), x.dtype)
    for t in reversed(range(len(x))) if back else range(len(x)):
        goes = np.ones((len(h), 1), bool) if lengths is None else (t < lengths)[:, None]
        new = cell.step(x[t], h, c)
        h, c = (np.where(goes, a, old) for a, old in zip(new, (h, c), strict=True))
        ys[t] = np.where(goes, h, 0)
    return ys, h, c


def _activations(node: Node, direction: int, directions: int) -> list[Callable[[Array], Array]]:
    """The functions of one direction, each without parameters."""
    usual = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
    names = node.attrs.get("activations", usual[node.op.name] * directions)
    each = len(names) // directions
    wanted = [name.lower() for name in names[direction * each : (direction + 1) * each]]
    odd = [name for name in wanted if name not in _FUNCTIONS]
    if odd or node.attrs.get("activation_alpha") or node.attrs.get("activation_beta"):
        raise Unsupported(f"{node}: activations with parameters of their own")
    return [_FUNCTIONS[name] for name in wanted]


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
}
