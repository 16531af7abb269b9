"""onnxruntime's own operators: schemas, types, numbers and links, against onnxruntime itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from redir import ops
from redir.ir import Attr, Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, TensorType, is_floating
from redir.ops.contrib import ENTRIES
from redir.ops.contrib_schemas import MICROSOFT, SCHEMAS, schema_of
from redir.runtime.float64 import widened
from redir.runtime.onnxruntime import session
from tests.drawn_nodes import Case
from tests.ops.test_links import check_laws

OPSET = {"": 14, MICROSOFT: 1}
RNG = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def made(
    name: str,
    *arrays: Array | None,
    results: int = 1,
    domain: str = MICROSOFT,
    stored: tuple[int, ...] = (),
    **attrs: Attr,
) -> Case:
    """A node of the operator ``name`` on operands of these arrays, None for one that is absent.

    Those at places ``stored`` are constants.
    """
    op = ops.lookup(name, 1, domain)
    assert op is not None
    given = [None if a is None else Value(TensorType(a.dtype, a.shape)) for a in arrays]
    for place in stored:
        given[place] = ops.constant(np.asarray(arrays[place]))
    inputs = tuple(ops.Absent() if v is None else v for v in given)
    held = {v: a for v, a in zip(given, arrays, strict=True) if v is not None and a is not None}
    return Case(Node(op, inputs, attrs, arity=results), held)


B, S, H, D = 2, 5, 3, 4  # examples, places, heads, and the channels of each
W = H * D
LATER = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
ROOM = 8
ANGLES = floats(ROOM, D // 2)
PAST = floats(B, H, 2, D), floats(B, H, 2, D)
SMALL = (floats(B, S, W), floats(B, S, W), floats(B, S, W + H))  # values of another width
CASES: dict[str, Case] = {
    "Gelu": made("Gelu", floats(2, 3, 4)),
    "BiasGelu": made("BiasGelu", floats(2, 3, 4), floats(4)),
    "FastGelu": made("FastGelu", floats(2, 3, 4)),
    "FastGelu, bias": made("FastGelu", floats(2, 3, 4), floats(4)),
    "QuickGelu": made("QuickGelu", floats(2, 3, 4), alpha=1.3),
    "FusedMatMul": made("FusedMatMul", floats(2, 3, 4), floats(4, 5), alpha=0.5),
    "FusedMatMul, turned": made(
        "FusedMatMul", floats(2, 4, 3), floats(2, 5, 4), transA=1, transB=1
    ),
    "LayerNormalization": made(
        "LayerNormalization", floats(2, 3, 4), floats(4), floats(4), domain="", results=3
    ),
    "SimplifiedLayerNormalization": made(
        "SimplifiedLayerNormalization",
        *(floats(2, 3, 4), floats(4)),
        domain="",
        epsilon=1e-3,
        stored=(1,),
    ),
    "SkipLayerNormalization": made(
        "SkipLayerNormalization", floats(2, 3, 4), floats(2, 3, 4), floats(4), floats(4), floats(4)
    ),
    "SkipLayerNormalization, spread": made(
        "SkipLayerNormalization", floats(2, 3, 4), floats(3, 4), floats(4), epsilon=0.1
    ),
    "SkipSimplifiedLayerNormalization": made(
        "SkipSimplifiedLayerNormalization",
        *(floats(2, 3, 4), floats(2, 3, 4), floats(4), floats(4)),
        stored=(2,),
    ),
    "SkipSimplifiedLayerNormalization, scale": made(
        "SkipSimplifiedLayerNormalization", floats(2, 3, 4), floats(2, 3, 4), floats(4)
    ),
    "EmbedLayerNormalization": made(
        "EmbedLayerNormalization",
        *(RNG.integers(0, 2, (B, S)).astype(np.int32) for _ in range(2)),
        *(floats(7, 4), floats(ROOM, 4), floats(2, 4), floats(4), floats(4), LATER),
        results=3,
    ),
    "EmbedLayerNormalization, one table": made(
        "EmbedLayerNormalization",
        RNG.integers(0, 7, (B, S)).astype(np.int32),
        *(None, floats(7, 4), floats(ROOM, 4), None, floats(4), floats(4), None),
        np.array([[2, 3, 4, 5, 6]], np.int32),
        results=2,
    ),
    "EmbedLayerNormalization, no segments": made(
        "EmbedLayerNormalization",
        RNG.integers(0, 7, (B, S)).astype(np.int32),
        *(None, floats(7, 4), floats(ROOM, 4), floats(2, 4), floats(4), floats(4)),
        results=2,
    ),
    "RotaryEmbedding": made(
        "RotaryEmbedding", floats(B, S, W), np.array([2], np.int64), np.cos(ANGLES), np.sin(ANGLES)
    ),
    "RotaryEmbedding, heads": made(
        "RotaryEmbedding",
        floats(B, H, S, D),
        RNG.integers(0, ROOM, (B, S)),
        *(np.cos(ANGLES), np.sin(ANGLES)),
        interleaved=1,
    ),
    "RotaryEmbedding, part": made(
        "RotaryEmbedding",
        floats(B, S, W),
        RNG.integers(0, ROOM, (B, S)),
        *(np.cos(ANGLES)[:, :1], np.sin(ANGLES)[:, :1]),
        rotary_embedding_dim=2,
        num_heads=H,
    ),
    "Attention": made("Attention", floats(B, S, 6), floats(6, 3 * W), floats(3 * W), num_heads=H),
    "Attention, mask": made(
        "Attention", floats(B, S, 6), floats(6, 3 * W), floats(3 * W), LATER, num_heads=H
    ),
    "Attention, ends": made(
        "Attention",
        *(floats(B, S, 6), floats(6, 3 * W), floats(3 * W), np.array([4, 2], np.int32)),
        num_heads=H,
        scale=0.3,
    ),
    "Attention, starts": made(
        "Attention",
        *(floats(B, S, 6), floats(6, 3 * W), floats(3 * W), np.array([4, 5, 1, 2], np.int32)),
        num_heads=H,
    ),
    "Attention, ends and more": made(
        "Attention",
        *(floats(B, S, 6), floats(6, 3 * W), floats(3 * W)),
        np.array([4, 2, 0, 4, 6, 0, 4, 6], np.int32),
        num_heads=H,
    ),
    "Attention, sizes": made(
        "Attention",
        *(floats(B, S, 6), floats(6, 3 * W + H), floats(3 * W + H)),
        num_heads=H,
        qkv_hidden_sizes=(W, W, W + H),
    ),
    "Attention, added": made(
        "Attention",
        *(floats(B, S, 6), floats(6, 3 * W), floats(3 * W), None, None, floats(1, H, S, S)),
        num_heads=H,
        unidirectional=1,
    ),
    "Attention, past": made(
        "Attention",
        *(floats(B, S, 6), floats(6, 3 * W), floats(3 * W), None, np.stack(PAST)),
        num_heads=H,
        unidirectional=1,
        results=2,
    ),
    "MultiHeadAttention": made("MultiHeadAttention", *SMALL, num_heads=H),
    "MultiHeadAttention, bias": made(
        "MultiHeadAttention", *SMALL, floats(3 * W + H), LATER, num_heads=H, scale=0.4
    ),
    "MultiHeadAttention, causal": made(
        "MultiHeadAttention", *SMALL, None, None, floats(B, 1, S, S), num_heads=H, unidirectional=1
    ),
    "MultiHeadAttention, other places": made(
        "MultiHeadAttention", floats(B, 2, W), floats(B, S, W), floats(B, S, W), num_heads=H
    ),
    "MultiHeadAttention, causal, fewer places": made(
        "MultiHeadAttention",
        *(floats(B, S, W), floats(B, 3, W), floats(B, 3, W)),
        num_heads=H,
        unidirectional=1,
    ),
    "MultiHeadAttention, causal, more places": made(
        "MultiHeadAttention",
        *(floats(B, 3, W), floats(B, S, W), floats(B, S, W)),
        num_heads=H,
        unidirectional=1,
    ),
    "MultiHeadAttention, past": made(
        "MultiHeadAttention",
        *(floats(B, 1, W), floats(B, 1, W), floats(B, 1, W), None, None, None, *PAST),
        num_heads=H,
        results=3,
    ),
    "GroupQueryAttention": made(
        "GroupQueryAttention",
        *(floats(B, S, 2 * 8), floats(B, S, 8), floats(B, S, 8), None, None),
        *(np.array([S - 1, S - 1], np.int32), np.array(S, np.int32)),
        num_heads=2,
        kv_num_heads=1,
        results=3,
    ),
    "GroupQueryAttention, turned": made(
        "GroupQueryAttention",
        *(floats(1, 1, 4 * 16), None, None, floats(1, 1, 6, 16), floats(1, 1, 6, 16)),
        *(np.array([6], np.int32), np.array(7, np.int32)),
        *(np.cos(floats(ROOM, 8)), np.sin(floats(ROOM, 8))),
        num_heads=2,
        kv_num_heads=1,
        do_rotary=1,
        local_window_size=4,
        results=3,
    ),
}
LINKED = [name for name, case in CASES.items() if "GroupQuery" not in name]


def feeds(case: Case) -> dict[str, Array]:
    return {f"x{i}": a for i, a in enumerate(a for v, a in case.arrays.items() if v.node is None)}


def graph_of(case: Case) -> Graph:
    return replace(case.graph, opset=OPSET)


def test_every_entry_has_a_schema_and_a_case() -> None:
    assert ENTRIES.keys() == SCHEMAS.keys()
    assert {name for _, name in ENTRIES} == {case.node.op.name for case in CASES.values()}


def test_the_schemas_are_those_of_onnxruntime() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415

    theirs = {
        (s.domain, s.name): said(s) for s in state.get_all_operator_schema() if s.since_version == 1
    }
    ours = {(domain, name): said(schema_of(name, 1, domain)) for domain, name in SCHEMAS}
    assert ours == {key: theirs[key] for key in ours}


def said(schema: Any) -> tuple[Any, ...]:
    """The operands, results and attributes of a schema, of either package."""
    kinds = {name: (a.type.name, a.required) for name, a in schema.attributes.items()}
    parts = [[(p.name, p.option.name) for p in ps] for ps in (schema.inputs, schema.outputs)]
    return (*parts, dict(sorted(kinds.items())), schema.since_version)


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_onnxruntime_does(name: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    graph = graph_of(CASES[name])
    wanted, found = session(graph)(feeds(CASES[name])), evaluate(graph, feeds(CASES[name]))
    for key, array in wanted.items():
        np.testing.assert_allclose(found[key], array, 2e-5, 2e-5, err_msg=key)
        assert found[key].dtype == array.dtype


@pytest.mark.parametrize("name", CASES)
def test_it_is_computed_in_double_precision(name: str) -> None:
    case = CASES[name]
    given = {n: a.astype(np.float64) if is_floating(a.dtype) else a for n, a in feeds(case).items()}
    found = evaluate(widened(graph_of(case)), given)["y0"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, evaluate(graph_of(case), feeds(case))["y0"], 1e-4, 1e-4)


@pytest.mark.parametrize("name", CASES)
def test_its_types_are_those_of_its_results(name: str) -> None:
    case = CASES[name]
    for value, array in zip(
        case.node.outputs, case.node.op.evaluate(case.node, *operands(case)), strict=True
    ):
        assert value.type.dtype == array.dtype
        assert all(d in {None, n} for d, n in zip(value.type.shape or (), array.shape, strict=True))


def operands(case: Case) -> list[Any]:
    return [case.arrays.get(v) for v in case.node.inputs]


@pytest.mark.parametrize("name", LINKED)
def test_its_links_hold(name: str) -> None:
    check_laws(CASES[name])


@pytest.mark.parametrize("name", sorted(n for n in CASES if n.startswith("MultiHeadAttention")))
def test_it_is_linear_in_values_where_it_says_so(name: str) -> None:
    case = CASES[name]
    more = RNG.normal(size=(arrays := operands(case))[2].shape).astype(np.float32)

    def run(values: Array) -> Array:
        found: Array = case.node.op.evaluate(case.node, *arrays[:2], values, *arrays[3:])[0]
        return found

    apart = run(arrays[2]) + run(more)
    holds = np.allclose(run(arrays[2] + more), apart, 1e-4, 1e-4)
    assert case.node.has("linear") == (holds and case.node.arity == 1)
