"""What operators compute: as onnx's own node tests expect, and as onnxruntime does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import base
from onnx.reference import ReferenceEvaluator

from redir import ops
from redir.errors import RedirError
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Value
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, Tensor, TensorType
from redir.runtime.onnxruntime import EXACT_PRODUCTS
from tests.extras import ort
from tests.helpers import placeholder

PASSING = 1850  # of the 1884 node tests of onnx 1.23

# Names, or how they start, with the reason why these tests cannot pass.
EXCLUDED = {
    "test_bernoulli": "random",
    "test_causal_conv_with_state_silu_fp16_expanded": "float16 sums, compared at 1e-3",
    "test_flexattention": "its bodies are not run",
    "test_if_opt": "the expected output is an optional, wrapped once more in a list",
    "test_image_decoder": "onnx.reference needs Pillow, which may be there",
    "test_scan_sum": "Scan before opset 9",
    "test_scatter_with": "onnx.reference has no kernel for Scatter",
}

# Each takes seconds to pool 90,000 numbers; smaller ones pool in three axes too.
LARGE = {f"export_{kind}pool_3d_default" for kind in ("average", "lp", "max")}


def expected_array(held: Any) -> Any:
    return numpy_helper.to_array(held) if isinstance(held, TensorProto) else held


def agree(ours: Any, theirs: Any, rtol: float) -> bool:
    """Whether two outputs are the same; lists hold the items of sequences."""
    if isinstance(theirs, list):
        pairs = zip(ours, theirs, strict=True)
        return isinstance(ours, list) and all(agree(a, b, rtol) for a, b in pairs)
    if theirs is None:
        return ours is None
    a, b = np.asarray(ours), np.asarray(theirs)
    if b.dtype == np.dtype(object):
        return bool(a.dtype.kind in "OU") and bool(a.tolist() == b.tolist())
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    wide = np.complex128 if b.dtype.kind == "c" else np.float64
    return np.allclose(a.astype(wide), b.astype(wide), rtol, 1e-5, equal_nan=True)


def passes(case: Any) -> bool:
    try:
        graph = from_proto(case.model)
        for given, wanted in case.data_sets:
            feeds = {name: expected_array(x) for name, x in zip(graph.inputs, given, strict=True)}
            found = evaluate(graph, feeds).values()
            pairs = zip(found, map(expected_array, wanted), strict=True)
            if not all(agree(a, b, case.rtol) for a, b in pairs):
                return False
    except RedirError:
        return False
    return True


def cases() -> Any:
    """Onnx's node tests but the large ones: to import their modules makes them all."""
    export = base._Exporter.__init__

    def exported(cls: base._Exporter, name: str, bases: Any, held: dict[str, Any]) -> None:
        export(cls, name, bases, {k: what for k, what in held.items() if k not in LARGE})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base._Exporter, "__init__", exported)
        patch.setattr(base, "process_snippet", lambda *_: ("", ""))  # their text, for a page
        from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415 - see above

        return collect_testcases(None)


def verdicts() -> dict[str, bool]:
    """Whether each of onnx's node tests passes, by name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the tests overflow on purpose
        return {case.name: passes(case) for case in cases()}


@pytest.mark.nightly
def test_node_tests_of_onnx_pass_but_for_the_excluded() -> None:
    """One test, so that one process makes the cases; each exclusion is needed."""
    found = verdicts()
    failed = {name for name, ok in found.items() if not ok}
    reasons = {start for start in EXCLUDED for name in failed if name.startswith(start)}
    assert {name for name in failed if not name.startswith(tuple(EXCLUDED))} == set()
    assert reasons | {"test_image_decoder"} == EXCLUDED.keys()
    assert len(found) - len(failed) >= PASSING


# Kernels of our own


def model_of(
    name: str, arrays: Mapping[str, Array], attrs: Mapping[str, Any], opset: int = 18
) -> onnx.ModelProto:
    """A model of one operator, whose operands are its inputs."""
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    ]
    code = helper.np_dtype_to_tensor_dtype(arrays["x"].dtype)
    graph = helper.make_graph(
        [helper.make_node(name, list(arrays), ["y"], **attrs)],
        "one",
        inputs,
        [helper.make_tensor_value_info("y", code, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def runtime(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> Array:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(*EXACT_PRODUCTS)
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: Array = session.run(None, dict(arrays))[0]
    return found


def ours(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> Array:
    found: Array = evaluate(from_proto(model), arrays)["y"]
    return found


def whole(rng: np.random.Generator, *shape: int) -> Array:
    """Small whole numbers, on which sums of products are exact in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


SPATIAL: list[tuple[int, dict[str, Any]]] = [
    (1, {}),
    (1, {"strides": [2], "pads": [2, 1], "dilations": [3]}),
    (2, {}),
    (2, {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    (2, {"dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    (2, {"strides": [3, 2], "dilations": [2, 3], "pads": [0, 2, 1, 0]}),
    (2, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    (2, {"auto_pad": "SAME_LOWER"}),
    (1, {"auto_pad": "SAME_LOWER", "strides": [3]}),
    (2, {"auto_pad": "SAME_UPPER", "strides": [1, 3]}),
    (2, {"auto_pad": "VALID", "strides": [2, 1]}),
    (3, {}),
    (3, {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1], "dilations": [1, 2, 1]}),
]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rank", "attrs"), SPATIAL, ids=str)
def test_conv(rank: int, attrs: dict[str, Any], groups: int, *, bias: bool) -> None:
    rng = np.random.default_rng(0)
    kernel = (3, 2, 2)[:rank]
    arrays = {"x": whole(rng, 2, 4, *(9, 8, 7)[:rank]), "w": whole(rng, 8, 4 // groups, *kernel)}
    arrays |= {"b": whole(rng, 8)} if bias else {}
    model = model_of("Conv", arrays, {**attrs, "group": groups})
    np.testing.assert_array_equal(ours(model, arrays), runtime(model, arrays))


TRANSPOSED: list[tuple[int, dict[str, Any]]] = [
    *(s for s in SPATIAL if "auto_pad" not in s[1]),
    (1, {"strides": [3], "output_padding": [2]}),
    (2, {"strides": [2, 3], "output_padding": [1, 2], "pads": [1, 0, 0, 2]}),
    (2, {"strides": [2, 2], "output_padding": [1, 1], "dilations": [2, 2]}),
    (3, {"strides": [2, 2, 3], "output_padding": [1, 0, 2]}),
]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rank", "attrs"), TRANSPOSED, ids=str)
def test_conv_transpose(rank: int, attrs: dict[str, Any], groups: int, *, bias: bool) -> None:
    rng = np.random.default_rng(0)
    kernel = (3, 2, 2)[:rank]
    arrays = {"x": whole(rng, 2, 4, *(6, 5, 4)[:rank]), "w": whole(rng, 4, 3, *kernel)}
    arrays |= {"b": whole(rng, 3 * groups)} if bias else {}
    model = model_of("ConvTranspose", arrays, {**attrs, "group": groups})
    np.testing.assert_array_equal(ours(model, arrays), runtime(model, arrays))


@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [2, 2], "output_shape": [12, 11]},
        {"strides": [2, 2], "group": 2, "auto_pad": "VALID"},
        {"strides": [2, 2], "group": 2, "auto_pad": "SAME_UPPER"},
    ],
    ids=str,
)
def test_conv_transpose_of_a_size_that_is_asked_for(attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": whole(rng, 2, 4, 6, 5), "w": whole(rng, 4, 3, 3, 2)}
    model = model_of("ConvTranspose", arrays, attrs)
    np.testing.assert_array_equal(ours(model, arrays), runtime(model, arrays))


def norm_operands(rank: int, dtype: type = np.float32) -> dict[str, Array]:
    rng = np.random.default_rng(rank)
    arrays: dict[str, Array] = {"x": rng.normal(size=(2, 3, *(4, 5, 2)[:rank])).astype(dtype)}
    arrays |= {name: rng.normal(size=3).astype(dtype) for name in ("scale", "bias", "mean")}
    return {**arrays, "var": rng.uniform(0.1, 2, 3).astype(dtype)}


def test_conv_of_nothing_is_nothing() -> None:
    x = placeholder(1, 2, None, 3)
    y = ops.Conv(x, ops.Const(value=Tensor(np.ones((5, 2, 1, 1), np.float32))))
    found = evaluate(Graph({"x": x}, {"y": y}), {"x": np.ones((1, 2, 0, 3), np.float32)})
    assert found["y"].shape == (1, 5, 0, 3)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("opset", [1, 6, 7, 9, 14, 15])
def test_batch_norm_of_every_version(opset: int, rank: int) -> None:
    arrays = norm_operands(rank)
    old: dict[str, Any] = {"is_test": 1} if opset < 7 else {}
    old |= {"consumed_inputs": [0] * 5} if opset < 6 else {}
    found = ours(model_of("BatchNormalization", arrays, {"epsilon": 1e-2, **old}, opset), arrays)
    wanted = runtime(model_of("BatchNormalization", arrays, {"epsilon": 1e-2}, 15), arrays)
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_keeps_the_element_type(dtype: type) -> None:
    arrays = norm_operands(2, dtype)
    model = model_of("BatchNormalization", arrays, {}, 15)
    assert ours(model, arrays).dtype == runtime(model, arrays).dtype


@pytest.mark.parametrize("opset", [1, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_of_every_version(name: str, axis: int, opset: int) -> None:
    arrays = {"x": np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)}
    model = model_of(name, arrays, {"axis": axis}, opset)
    np.testing.assert_allclose(ours(model, arrays), runtime(model, arrays), 1e-5, 1e-6)


@pytest.mark.parametrize("depth", [np.array(5), np.array([5])], ids=["scalar", "vector"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int, depth: Array) -> None:
    arrays: dict[str, Array] = {
        "x": np.array([[0, 4, -1], [2, 7, -9]], np.int64),
        "depth": depth.astype(np.int64),
        "values": np.array([2, 3], np.int64),
    }
    model = model_of("OneHot", arrays, {"axis": axis}, 11)
    np.testing.assert_array_equal(ours(model, arrays), runtime(model, arrays))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("size", [3, 100])
def test_gather_elements(axis: int, size: int) -> None:
    shape = [2, 2]
    shape[axis] = size
    arrays: dict[str, Array] = {
        "x": np.arange(2 * size, dtype=np.float32).reshape(shape),
        "places": np.array([[1, -1]]),
    }
    model = model_of("GatherElements", arrays, {"axis": axis}, 13)
    np.testing.assert_array_equal(ours(model, arrays), runtime(model, arrays))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_a_sum_of_squares_keeps_its_element_type(dtype: type) -> None:
    x: Array = np.array([[2, 3]], dtype)
    assert alone("ReduceSumSquare", x).dtype == dtype


# What the kernels of onnx.reference lack


def alone(name: str, *arrays: Array, opset: int = 21, **attrs: Any) -> Any:
    """What the operator ``name`` of ``opset`` computes on ``arrays``."""
    values = {f"x{i}": Value(TensorType(a.dtype, a.shape)) for i, a in enumerate(arrays)}
    op = ops.lookup(name, opset)
    assert op is not None
    graph = Graph(values, {"y": Node(op, tuple(values.values()), attrs).outputs[0]})
    return evaluate(graph, {f"x{i}": a for i, a in enumerate(arrays)})["y"]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_runs(approximate: str) -> None:
    x = np.linspace(-2, 2, 5, dtype=np.float32)
    found = alone("Gelu", x, approximate=approximate)
    model = model_of("Gelu", {"x": x}, {"approximate": approximate}, 20)
    np.testing.assert_allclose(found, runtime(model, {"x": x}), 1e-3, 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_the_error_function_is_that_of_the_reference(dtype: type) -> None:
    x: Array = np.array([*np.linspace(-4, 4, 101), np.inf, -np.inf, np.nan], dtype)
    found = alone("Erf", x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.array([math.erf(n) for n in x], dtype), 1e-15)


def test_strings_are_objects() -> None:
    found = alone("StringConcat", np.array("ab", object), np.array("cd", object))
    assert np.asarray(found).dtype == np.dtype(object)


def test_a_division_by_zero_warns_nobody() -> None:
    assert np.isinf(alone("Log", np.zeros(1, np.float32)))[0]


def test_constants_are_read_by_the_kernels() -> None:
    y = ops.Add(*(ops.Const(value=Tensor(np.array([n], np.int64))) for n in (1, 2)))
    assert evaluate(Graph({}, {"y": y}), {})["y"].tolist() == [3]


@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_max_pool_that_pads_automatically(how: str, strides: tuple[int, ...]) -> None:
    x = whole(np.random.default_rng(0), 2, 3, 7, 8)
    attrs = {"kernel_shape": (2, 4), "strides": strides, "auto_pad": how}
    model = model_of("MaxPool", {"x": x}, attrs)
    np.testing.assert_array_equal(ours(model, {"x": x}), runtime(model, {"x": x}))


POOLS = [
    {"kernel_shape": (3, 2)},
    {"kernel_shape": (3, 2), "strides": (2, 3), "pads": (1, 0, 2, 1)},
    {"kernel_shape": (3, 2), "strides": (2, 3), "pads": (1, 0, 2, 1), "count_include_pad": 1},
    {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1},
    {"kernel_shape": (3, 3), "strides": (3, 2), "pads": (1, 1, 1, 1), "ceil_mode": 1},
    {"kernel_shape": (2, 4), "strides": (2, 3), "auto_pad": "SAME_UPPER"},
    {"kernel_shape": (2, 4), "auto_pad": "SAME_LOWER"},
    {"kernel_shape": (2, 4), "auto_pad": "VALID"},
    {"kernel_shape": (2, 2), "dilations": (2, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1},
]


@pytest.mark.parametrize("attrs", POOLS)
def test_average_pool(attrs: Mapping[str, Any]) -> None:
    x = whole(np.random.default_rng(0), 2, 3, 7, 8)
    model = model_of("AveragePool", {"x": x}, attrs, 19)
    np.testing.assert_allclose(ours(model, {"x": x}), runtime(model, {"x": x}), 1e-6)


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize(("dtype", "off"), [(np.float16, 1e-3), (np.float64, 1e-12)])
def test_average_pool_is_the_reference(attrs: Mapping[str, Any], dtype: Any, off: float) -> None:
    x = whole(np.random.default_rng(0), 2, 3, 7, 8).astype(dtype)
    model = model_of("AveragePool", {"x": x}, attrs, 19)
    ran: Any = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(ours(model, {"x": x}), ran[0], off)


def test_the_first_average_pool_counts_its_border() -> None:
    op, x = ops.lookup("AveragePool", 1), placeholder(1, 1, 2)
    assert op is not None
    y = Node(op, (x,), {"kernel_shape": (2,), "pads": (1, 1)}).outputs[0]
    found = evaluate(Graph({"x": x}, {"y": y}), {"x": np.ones((1, 1, 2), np.float32)})["y"]
    assert found.tolist() == [[[0.5, 1.0, 0.5]]]


def both(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> tuple[list[Array], list[Array]]:
    """All results of a model: ours, and those of onnxruntime."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(evaluate(from_proto(model), arrays).values()), session.run(None, dict(arrays))


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("pads", [0, 1])
def test_max_pool_says_where_the_largest_stands(rank: int, order: int, pads: int) -> None:
    x = np.random.default_rng(0).permutation(2 * 3 * 7**rank).astype(np.float32)
    arrays = {"x": x.reshape(2, 3, *(7,) * rank)}
    attrs = {"kernel_shape": (3, 2, 2)[:rank], "strides": (2, 1, 2)[:rank], "storage_order": order}
    model = model_of("MaxPool", arrays, {**attrs, "pads": (pads,) * 2 * rank}, 12)
    model.graph.node[0].output.append("i")
    model.graph.output.append(helper.make_tensor_value_info("i", TensorProto.INT64, None))
    found, wanted = both(model, arrays)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize("opset", [10, 16])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_of_every_version(mode: str, opset: int) -> None:
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 3, 4], [1, 1, 4, 4]], np.float32)
    arrays = {"x": whole(rng, 2, 3, 5, 5), "rois": corners, "batch": np.array([1, 0])}
    attrs = {"mode": mode, "output_height": 2, "output_width": 2, "sampling_ratio": 1}
    model = model_of("RoiAlign", arrays, attrs, opset)
    np.testing.assert_allclose(ours(model, arrays), runtime(model, arrays), 1e-5, 1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_global_max_pool(rank: int) -> None:
    x = whole(np.random.default_rng(0), 2, 3, *(4, 3, 2)[:rank])
    model = model_of("GlobalMaxPool", {"x": x}, {})
    np.testing.assert_array_equal(ours(model, {"x": x}), runtime(model, {"x": x}))


def test_unsqueeze_of_negative_axes() -> None:
    x = whole(np.random.default_rng(0), 2, 3)
    model = model_of("Unsqueeze", {"x": x}, {"axes": [-3, -1]}, 11)
    np.testing.assert_array_equal(ours(model, {"x": x}), runtime(model, {"x": x}))


# LSTM, GRU and RNN

RECURRENT: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"clip": 0.5}),
    ("LSTM", {"activations": ["Sigmoid", "Relu", "Softsign"]}),
    ("GRU", {}),
    ("GRU", {"linear_before_reset": 1}),
    ("GRU", {"clip": 0.5, "linear_before_reset": 1}),
    ("GRU", {"activations": ["Sigmoid", "Relu"]}),
    ("RNN", {}),
    ("RNN", {"clip": 0.5}),
    ("RNN", {"activations": ["Relu"]}),
]


def recurrent_operands(name: str, ways: int, chosen: str) -> dict[str, Array]:
    """Operands for 3 features and 4 hidden units, with the optional ones named in ``chosen``."""
    rng, gates = np.random.default_rng(0), {"LSTM": 4, "GRU": 3, "RNN": 1}[name]
    shapes = {"w": (ways, 4 * gates, 3), "r": (ways, 4 * gates, 4), "b": (ways, 8 * gates)}
    shapes |= {"h": (ways, 2, 4), "c": (ways, 2, 4), "p": (ways, 12)}
    arrays = {"x": rng.normal(size=(5, 2, 3)).astype(np.float32)}
    arrays |= {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    arrays["s"] = np.array([5, 2], np.int32)
    return {n: arrays[n] for n in "xwrbshcp" if n in "xwr" or n in chosen}


def recurrent_model(
    name: str, arrays: Mapping[str, Array], attrs: Mapping[str, Any]
) -> onnx.ModelProto:
    places = "xwrbshcp" if name == "LSTM" else "xwrbsh"
    outs = ["y", "y_h", "y_c"][: 3 if name == "LSTM" else 2]
    node = helper.make_node(
        name, [n if n in arrays else "" for n in places], outs, hidden_size=4, **attrs
    )
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    ]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outs]
    graph = helper.make_graph([node], "one", inputs, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


@pytest.mark.parametrize("chosen", ["", "b", "bs", "bshcp", "hcp"])
@pytest.mark.parametrize("way", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("name", "attrs"), RECURRENT, ids=str)
def test_recurrent(name: str, attrs: dict[str, Any], way: str, chosen: str) -> None:
    ways = 2 if way == "bidirectional" else 1
    chosen = chosen if name == "LSTM" else chosen.replace("c", "").replace("p", "")
    arrays = recurrent_operands(name, ways, chosen)
    if "activations" in attrs:
        attrs = {"activations": attrs["activations"] * ways}
    model = recurrent_model(name, arrays, {"direction": way, **attrs})
    found = evaluate(from_proto(model), arrays)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for array, wanted in zip(found.values(), session.run(None, arrays), strict=True):
        np.testing.assert_allclose(array, wanted, 1e-4, 1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_recurrent_on_examples_first(name: str) -> None:
    arrays = recurrent_operands(name, 1, "bh")
    turned = {n: a.swapaxes(0, 1) if n in "xh" else a for n, a in arrays.items()}
    plain = evaluate(from_proto(recurrent_model(name, arrays, {})), arrays)
    other = evaluate(from_proto(recurrent_model(name, turned, {"layout": 1})), turned)
    np.testing.assert_array_equal(other["y"], plain["y"].transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(other["y_h"], plain["y_h"].swapaxes(0, 1))


# Products of integers


def byte(rng: np.random.Generator, *shape: int, signed: bool = False) -> Array:
    dtype = np.int8 if signed else np.uint8
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def quantised_operands(x: Array, w: Array, each: tuple[int, ...], *, scaled: bool) -> Any:
    """The operands by name; scales are powers of two, with which products are exact."""
    rng = np.random.default_rng(1)
    zeros = byte(rng), byte(rng, *each, signed=w.dtype == np.int8), byte(rng)
    if not scaled:
        return {"x": x, "w": w, "xz": zeros[0], "wz": zeros[1]}
    scales = np.exp2(rng.integers(-9, -5, each)).astype(np.float32)
    names = {"x": x, "xs": np.float32(0.5), "xz": zeros[0], "w": w, "ws": scales, "wz": zeros[1]}
    arrays = {**names, "ys": np.float32(0.25), "yz": zeros[2]}
    return {n: np.asarray(a) for n, a in arrays.items()}


def check_integers(name: str, arrays: Mapping[str, Array], attrs: Mapping[str, Any]) -> None:
    model = model_of(name, arrays, attrs)
    kind = TensorProto.INT32 if name.endswith("Integer") else TensorProto.UINT8
    model.graph.output[0].type.tensor_type.elem_type = kind
    del model.graph.input[1:]  # what is constant is multiplied exactly
    held = [numpy_helper.from_array(array, n) for n, array in arrays.items() if n != "x"]
    model.graph.initializer.extend(held)
    arrays = {"x": arrays["x"]}
    np.testing.assert_array_equal(ours(model, arrays), runtime(model, arrays))


@pytest.mark.parametrize("name", ["QLinearConv", "ConvInteger"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "attrs",
    [{}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}, {"strides": [2, 1], "auto_pad": "SAME_LOWER"}],
    ids=str,
)
def test_convolution_of_integers(
    name: str, attrs: dict[str, Any], groups: int, *, signed: bool
) -> None:
    rng = np.random.default_rng(0)
    x, w = byte(rng, 2, 4, 6, 5), byte(rng, 8, 4 // groups, 3, 2, signed=signed)
    each = (8,) if name == "QLinearConv" and signed else ()
    arrays = quantised_operands(x, w, each, scaled=name == "QLinearConv")
    if signed:
        arrays["wz"] = np.zeros_like(arrays["wz"])  # as onnxruntime asks for
    if name == "QLinearConv":
        arrays["b"] = rng.integers(-99, 99, 8, np.int32)
    check_integers(name, arrays, {**attrs, "group": groups})


@pytest.mark.parametrize("name", ["QLinearMatMul", "MatMulInteger"])
@pytest.mark.parametrize("each", [(), (5,)], ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_product_of_integers(name: str, each: tuple[int, ...], *, signed: bool) -> None:
    rng = np.random.default_rng(0)
    x, w = byte(rng, 3, 4), byte(rng, 4, 5, signed=signed)
    arrays = quantised_operands(x, w, each, scaled=name == "QLinearMatMul")
    check_integers(name, arrays, {})


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_lrn(size: int) -> None:
    x = whole(np.random.default_rng(0), 2, 4, 3, 3)
    model = model_of("LRN", {"x": x}, {"size": size, "alpha": 0.5, "beta": 0.5, "bias": 2.0})
    if size % 2:  # onnxruntime takes no others
        np.testing.assert_allclose(ours(model, {"x": x}), runtime(model, {"x": x}), 1e-5)
    assert ours(model, {"x": x}).shape == x.shape
