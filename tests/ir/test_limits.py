"""Limits: what a file asks for is in proportion to its size, and asked for before it is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from redir.channels.coupling import Coupling
from redir.check.observed import Observed
from redir.errors import BadInput, TooLarge, Unsupported
from redir.frontends.onnx import from_proto
from redir.io import arrays
from redir.ir import Graph, limits
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array
from redir.passes.fold_constants import FoldConstants
from redir.runtime.onnxruntime import session
from redir.text import parse
from tests.damaged.archives import bomb, npy, packed


def read(text: str) -> Graph:
    return from_proto(parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}'))


FILLED = read("g (int64[1] n) => (float[A] y) { y = ConstantOfShape (n) }")
ENDLESS = read("""g (float[2] x) => (float[2] y) <int64 n = {1099511627776}, bool go = {1}> {
  y = Loop (n, go, x) <body = b (int64 i, bool a, float[2] s) => (bool o, float[2] t)
    { o = Identity (a)  t = Neg (s) }>
}""")


def sizes(*numbers: int) -> dict[str, Array]:
    return {"n": np.array(numbers)}


def test_what_is_small_is_computed() -> None:
    assert evaluate(FILLED, sizes(3))["y"].tolist() == [0, 0, 0]


def test_the_interpreter_asks_before_it_takes() -> None:
    with pytest.raises(TooLarge, match=r"ConstantOfShape 'y' needs 4\.0 TiB"):
        evaluate(FILLED, sizes(2**40))


def test_onnxruntime_fails_rather_than_the_machine() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(TooLarge, match=r"more than 1\.0 GiB to run in onnxruntime"):
        session(FILLED)(sizes(2**30))


def test_what_runs_of_other_sizes_took_does_not_count() -> None:
    pytest.importorskip("onnxruntime")
    run = session(FILLED)
    for mebibytes in (550, 600):
        assert run(sizes(mebibytes * 2**18))["y"].nbytes == mebibytes * 2**20


def test_a_limit_can_be_raised() -> None:
    with limits.allowing(2**41), pytest.raises(TooLarge, match=r"limit of 2\.0 TiB"):
        limits.ask(2**42, "it")


def test_arrays_that_do_not_fit_are_not_computed_on() -> None:
    graph = read("g (float[1] x, int64[N] n) => (float[A, B] y) { y = Tile (x, n) }")
    feeds = {"x": np.ones(1, np.float32), **sizes(10**10, 1)}
    with pytest.raises(Unsupported, match=r"Tile 'y': operands .* do not fit"):
        evaluate(graph, feeds)


def test_one_number_in_a_vector_ends_a_range() -> None:
    graph = read("""g (int64[N] n) => (int64[A] y) <int64 a = {0}, int64[1] d = {2}> {
      y = Range (a, n, d)
    }""")
    assert evaluate(graph, sizes(4))["y"].tolist() == [0, 2]
    with pytest.raises(TooLarge, match="Range 'y' needs"):
        evaluate(graph, sizes(2**40))


def test_a_kernel_that_runs_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("redir.ops.schema._kernel", greedy)
    with pytest.raises(TooLarge, match="ConstantOfShape 'y': there is not enough memory"):
        evaluate(FILLED, sizes(3))


def test_what_is_held_together_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "limit", lambda: 2**20)
    graph = read("""g (int64[1] n) => (float[A] y) {
      a = ConstantOfShape (n)  b = ConstantOfShape (n)  y = Add (a, b)
    }""")
    with pytest.raises(TooLarge, match="ConstantOfShape 'b'"):
        evaluate(graph, sizes(2**17 + 1))


def test_loops_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS", 300)
    with pytest.raises(TooLarge, match="more than 300 steps"):
        evaluate(ENDLESS, {"x": np.ones(2, np.float32)})


def test_what_loops_take_is_counted_for_all_feeds_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STEPS", 300)
    graph = read("""g (float[2] x) => (float[2] y) <int64 n = {50}, bool go = {1}> {
      y = Loop (n, go, x) <body = b (int64 i, bool a, float[2] s) => (bool o, float[2] t)
        { o = Identity (a)  t = Neg (s) }>
    }""")
    found = Observed(graph, [{"x": np.ones(2, np.float32)}] * 3).references
    assert [each is None for each in found] == [False, False, True]


def test_a_run_in_onnxruntime_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("redir.runtime.onnxruntime._PATIENCE", 0.2)
    with pytest.raises(TooLarge, match="runs for more than 0 s"):
        session(ENDLESS)({"x": np.ones(2, np.float32)})


@pytest.mark.parametrize("size", [2**33, 2**62])
def test_what_is_too_large_is_not_folded(size: int) -> None:
    graph = read(f"""g (float[1] x) => (float[A] y) <int64[1] n = {{{size}}}> {{
      c = ConstantOfShape (n)  y = Add (x, c)
    }}""")
    assert FoldConstants().run(graph) is graph


def test_text_may_not_be_nested_without_end() -> None:
    nested = "(" * 150 + ")" * 150
    with pytest.raises(BadInput):
        parse(f"def main(x: float32[2]):\n    y: float32[2] = Relu({nested})\n")


def test_attributes_may_not_be_nested_without_end() -> None:
    with pytest.raises(BadInput, match="nested too deeply"):
        parse(f"def main(x: float32[2]):\n    y: float32[2] = Relu(x, a={'-' * 5000}1)\n")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    path.write_bytes(bomb("x.npy", 2))
    with pytest.raises(TooLarge, match=r"what it holds needs 2\.0 GiB"):
        arrays.read(path)


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    path, header = tmp_path / "x.npz", "{'descr': '<f8', 'fortran_order': False, 'shape': (100,), }"
    path.write_bytes(packed({"x.npy": npy(header)}))
    with pytest.raises(BadInput, match="damaged"):
        arrays.read(path)


def test_an_axis_wider_than_any_layer_is_none_of_channels() -> None:
    graph = read(f"g (float[1, {2**40}] x) => (float[1, {2**40}] y) {{ y = Relu (x) }}")
    assert Coupling(graph).ports == ()
