"""Seeded wrong versions of how weights are shared and loops of one pass are opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import parser

from redir import ops
from redir.errors import Broken
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Value
from redir.ir.tensor import Array, Tensor
from redir.ops import tensor_of
from redir.passes import cse
from redir.passes.cse import Cse
from redir.passes.fold_constants import FoldConstants, control_flow
from redir.testing import check_pass
from tests.helpers import const, placeholder

EXAMPLES = 200
pytestmark = pytest.mark.usefixtures("unshrunk")


# Weights that are shared


@st.composite
def branches(draw: st.DrawFn) -> Graph:
    """Two layers whose weights are equal, or nearly so."""
    first = np.random.default_rng(0).integers(1, 9, (6, 5)).astype(np.float32)
    other, place = first.copy(), draw(st.sampled_from([0, 2, 29]))
    other.flat[place] *= draw(st.sampled_from([1, -1]))
    other = other.reshape(draw(st.sampled_from([(6, 5), (5, 6)])))
    weights = [first, other.astype(draw(st.sampled_from([np.float32, np.float64])))]
    xs = [placeholder(2, array.shape[0], dtype=array.dtype) for array in weights]
    pairs = zip(xs, weights, strict=True)
    ys = [ops.MatMul(x, const(array, array.dtype)) for x, array in pairs]
    return Graph(dict(zip("ab", xs, strict=True)), dict(zip("cd", ys, strict=True)))


def seen_as(change: Callable[[Array], Array]) -> Callable[[Value], Tensor | None]:
    """Constants, as they look to one who sees less of them."""

    def seen(value: Value) -> Tensor | None:
        tensor = tensor_of(value)
        return None if tensor is None else Tensor(change(tensor.array))

    return seen


def start(array: Array) -> Array:
    kept = array.reshape(-1).copy()
    kept[cse._START :] = 0
    return kept.reshape(array.shape)


SEEN: dict[str, Callable[[Array], Array]] = {
    "the start of weights alone": start,
    "no signs": np.abs,
    "no shapes": lambda array: array.reshape(-1),
    "no types": lambda array: array.astype(np.float32),
}


def test_equal_weights_are_shared() -> None:
    check_pass(Cse(weights=True), branches(), 40)


@pytest.mark.parametrize("what", SEEN)
def test_cse_is_refuted_that_sees(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cse, "tensor_of", seen_as(SEEN[what]))
    with pytest.raises(Broken, match=r"differs|IllTyped|Unsupported|was float"):
        check_pass(Cse(weights=True), branches(), EXAMPLES)


# Loops of one pass

LOOP = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[{n}] x, float[{n}] z, bool go) => (float[{n}] p, float[{n}] q) <{constants}> {{
  p, q = Loop (trips, {going}, x, z) <
    body = b (int64 i, bool on, float[{n}] s, float[{n}] t)
    => (bool off, float[{n}] u, float[{n}] v) {{
      j = Cast <to = 1> (i)
      k = Cast <to = 1> (on)
      u = Add (s, j)
      w = Sub (t, s)
      v = Mul (w, {factor})
      off = {stops} (on)
    }}
  >
}}
"""


@st.composite
def loops(draw: st.DrawFn) -> Graph:
    """A Loop of none to two passes, which may stop before, of a known or an unknown condition."""
    trips, begins = draw(st.integers(0, 2)), draw(st.integers(0, 1))
    text = LOOP.format(
        n=draw(st.integers(1, 5)),  # with which go is not the same
        constants=f"int64 trips = {{{trips}}}, bool known = {{{begins}}}",
        factor=draw(st.sampled_from("wjk")),
        going=draw(st.sampled_from(["", "known", "go"])),
        stops=draw(st.sampled_from(["Not", "Identity"])),
    )
    return from_proto(parser.parse_model(text))


times, called = control_flow._times, control_flow._called


def at_most_once(trips: Value, going: Value) -> int | None:
    known = times(trips, going)
    return known and min(known, 1)


def whether_or_not(trips: Value, going: Value) -> int | None:
    return times(trips, ops.Absent() if tensor_of(going) is None else going)


def without_asking(trips: Value, going: Value) -> int | None:
    return times(trips, going if tensor_of(going) is None else ops.Absent())


def with_own(change: Callable[[list[Value]], Sequence[Value]]) -> Callable[..., list[Value]]:
    """What a body gives that is given something else."""

    def wrong(node: Node, inputs: Any, name: str, own: Sequence[Value], visit: Any) -> list[Value]:
        return called(node, inputs, name, change([*own]), visit)

    return wrong


def mixed_up(*args: Any) -> list[Value]:
    going, *carried = called(*args)
    return [going, *carried[::-1]]


WRONG_LOOPS: dict[str, tuple[str, Callable[..., object]]] = {
    "takes two passes for one": ("_times", at_most_once),
    "does not wait for a condition": ("_times", whether_or_not),
    "ignores a condition": ("_times", without_asking),
    "counts from one": ("_called", with_own(lambda own: [const(1, np.int64), *own[1:]])),
    "has stopped before": ("_called", with_own(lambda own: [own[0], const(0, bool), *own[2:]])),
    "takes one operand for the other": ("_called", with_own(lambda own: [*own[:2], *own[:1:-1]])),
    "gives one result for the other": ("_called", mixed_up),
}


def test_loops_are_opened() -> None:
    check_pass(FoldConstants(), loops(), 40)


@pytest.mark.parametrize("what", WRONG_LOOPS)
def test_a_loop_is_refuted_that(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, wrong = WRONG_LOOPS[what]
    monkeypatch.setattr(control_flow, name, wrong)
    with pytest.raises(Broken, match="differs"):
        check_pass(FoldConstants(), loops(), EXAMPLES)
