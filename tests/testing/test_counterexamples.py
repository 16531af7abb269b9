"""Small models made to break a rewrite: what comes out must be what went in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

import redir
from redir.backends.onnx import to_proto
from redir.check.guarantees import SAME_OUTPUTS
from redir.frontends.onnx import from_proto
from redir.ir.tensor import Array
from tests.extras import ort

ONE = np.ones((1, 1), np.float32)
IMAGE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) - 7
ROWS = np.array([2, 3, 5, 2], np.float32).reshape(4, 1, 1, 1)  # the first and the last are equal
BIAS = np.array([1, 2, 3, 1], np.float32)


def model(
    interface: str, body: str, opset: int = 13, functions: str = "", /, **held: Any
) -> onnx.ModelProto:
    """A model of text, with ``held`` as its initializers."""
    sets = f'"": {opset}, "com.microsoft": 1, "local": 1'
    head = f"<ir_version: 10, opset_import: [{sets}]>\n"
    made: onnx.ModelProto = parser.parse_model(f"{head} g {interface} {{ {body} }} {functions}")
    tensors = (numpy_helper.from_array(np.asarray(a), name) for name, a in held.items())
    made.graph.initializer.extend(tensors)
    return made


def outputs(made: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    run = ort.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"]).run
    return list(run(None, dict(feeds)))


def keeps(made: onnx.ModelProto, pipeline: str | None = None, **feeds: Array) -> None:
    """Compare ``made`` with what a pipeline, or the preset exact, makes of it."""
    onnx.checker.check_model(made)
    before = outputs(made, feeds)
    after = to_proto(redir.compress(from_proto(made), pipeline=pipeline))
    onnx.checker.check_model(after)
    for old, new in zip(before, outputs(after, feeds), strict=True):
        if np.asarray(old).dtype.kind == "f":
            np.testing.assert_allclose(new, old, rtol=5e-3)
        else:
            np.testing.assert_array_equal(new, old)


def alone(
    op: str, *operands: Array | None, opset: int = 13, results: int = 1, **attrs: Any
) -> onnx.ModelProto:
    """A model of one node on constants, all but the last of whose results are dropped."""
    held = {f"i{k}": a for k, a in enumerate(operands) if a is not None}
    names = ["" if a is None else f"i{k}" for k, a in enumerate(operands)]
    made = model("() => (float y)", "y = Identity(y0)", opset, **held)
    outs = [*[""] * (results - 1), "y0"]
    made.graph.node.insert(0, helper.make_node(op, names, outs, **attrs))
    return made


def folded(made: onnx.ModelProto) -> None:
    """Compare a model of constants, whose output is declared to be what it computes."""
    (old,) = outputs(made, {})
    made.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(
            "y", helper.np_dtype_to_tensor_dtype(np.asarray(old).dtype), np.shape(old)
        )
    )
    keeps(made, "fold-constants")


# Constants: the kernels of onnx.reference against onnxruntime

CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7
STEPS = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 2, 4)
GATES = np.linspace(-1, 1, 80, dtype=np.float32).reshape(1, 20, 4)
AGAIN = np.linspace(1, -1, 100, dtype=np.float32).reshape(1, 20, 5)
LENGTHS = np.array([2, 3], np.int32)
GAUGE = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5) - 9
NONE = np.array([], np.float32)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_a_softmax_before_operator_set_13_flattens_its_operand(op: str) -> None:
    folded(alone(op, CUBE, opset=11, axis=1))


@pytest.mark.parametrize(
    ("operands", "attrs"),
    [
        ((), {"clip": 0.3}),
        ((), {"activations": ["HardSigmoid", "Relu", "Tanh"]}),
        ((None, LENGTHS), {}),
    ],
    ids=["clip", "activations", "lengths"],
)
def test_a_recurrent_layer_of_constants_heeds_its_options(
    operands: tuple[Array | None, ...], attrs: dict[str, Any]
) -> None:
    folded(alone("LSTM", STEPS, GATES, AGAIN, *operands, results=3, hidden_size=5, **attrs))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_constants_resized_by_a_fraction_keep_their_corners(mode: str) -> None:
    scales = np.array([1, 1, 1.5, 0.7], np.float32)
    how: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "align_corners"}
    folded(alone("Resize", GAUGE, NONE, scales, **how))


def test_a_pooling_of_constants_that_sticks_out() -> None:
    how: dict[str, Any] = {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}
    folded(alone("LpPool", GAUGE, opset=18, **how))


def test_regions_of_constants_before_operator_set_16() -> None:
    region, where = np.array([[0, 0, 3, 3]], np.float32), np.array([0])
    how: dict[str, Any] = {"output_height": 2, "output_width": 2, "sampling_ratio": 2}
    folded(alone("RoiAlign", GAUGE, region, where, opset=15, **how))


@pytest.mark.parametrize("number", [np.array([1, np.inf], np.float32), np.array([True])])
def test_numbers_cast_to_text(number: Array) -> None:
    made = model("() => (string[k] y)", "y = Cast<to = 8>(x)", x=number)
    keeps(made, "fold-constants")


# Sizes: the inference of onnx against what onnxruntime computes


@pytest.mark.parametrize(
    ("op", "opset", "held", "attrs"),
    [
        ("Resize", 13, {"i": NONE, "s": np.array([1, 1, 2.3], np.float32)}, ""),
        ("Upsample", 9, {"s": np.array([1, 1, 2.3], np.float32)}, ""),
        ("AveragePool", 12, {}, "kernel_shape=[1], strides=[4], ceil_mode=1"),
        ("MaxPool", 12, {}, "kernel_shape=[4], dilations=[2], auto_pad='SAME_UPPER'"),
        (
            "ConvTranspose",
            13,
            {"w": np.ones((1, 1, 2), np.float32)},
            "strides=[2], output_padding=[1], auto_pad='SAME_UPPER'",
        ),
    ],
    ids=["resize", "upsample", "window behind the end", "dilated same", "transposed same"],
)
def test_a_size_that_is_folded_is_the_size_at_run_time(
    op: str, opset: int, held: dict[str, Array], attrs: str
) -> None:
    node = f"{op}<{attrs}>" if attrs else op
    body = f"t = {node}({', '.join(['x', *held])}) y = Shape(t)".replace("'", '"')
    made = model("(float[1, 1, 10] x) => (int64[3] y)", body, opset, **held)
    keeps(made, "fold-constants", x=np.ones((1, 1, 10), np.float32))


def test_a_dimension_of_minus_1_is_open() -> None:
    made = model("(float[n, 2] x) => (int64[2] y)", "y = Shape(x)")
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    keeps(made, "fold-constants", x=np.ones((3, 2), np.float32))


def test_channels_of_a_model_with_a_dimension_of_minus_1_merge() -> None:
    made = model("(float[n, 1] x) => (float[m, 2] y)", "h = MatMul(x, w) y = MatMul(h, v)")
    made.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.float32), "w"))
    made.graph.initializer.append(numpy_helper.from_array(np.ones((2, 2), np.float32), "v"))
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    keeps(made, "merge", x=np.ones((3, 1), np.float32))


def test_a_wrong_value_info_behind_an_unknown_operator_says_nothing() -> None:
    made = model("(float[2, 3] x) => (int64[2] y)", "t = com.microsoft.Gelu(x) y = Shape(t)")
    made.graph.value_info.append(helper.make_tensor_value_info("t", 1, [4, 5]))
    keeps(made, "fold-constants", x=np.ones((2, 3), np.float32))


def test_a_number_too_large_for_its_cast_is_left_alone() -> None:
    body = "s = Shape(x) c = Concat<axis = 0>(s, k) d = Cast<to = 6>(c) y = Gather(d, i)"
    held = {"k": np.array([2**40]), "i": np.array([2])}
    made = model("(float[n, 2] x) => (int32[1] y)", body, **held)
    keeps(made, "fold-constants", x=np.ones((3, 2), np.float32))


# Names: of bodies, functions and sequences

LOOP = "n = Constant<value_int = 2>() c = Constant<value = bool {1}>()"


def loop(name: str, captured: str) -> str:
    own = f"(int64 i, bool go, float[1] {name}) => (bool on, float[1] o)"
    return f"Loop(n, c, s)<body = b {own} {{ on = Identity(go) o = Add({name}, {captured}) }}>"


def test_a_body_whose_input_has_the_name_of_what_it_captures_then() -> None:
    body = f"t = Identity(x) {LOOP} y = {loop('x', 't')}"
    made = model("(float[1] x) => (float[1] y)", body, s=np.array([100], np.float32))
    keeps(made, "eliminate-identity", x=np.ones(1, np.float32))


def test_a_new_name_is_not_that_of_the_input_of_a_body() -> None:
    branches = (
        "then_branch = p () => (float[1] a) { v = Relu(x) a = Neg(v) },"
        "else_branch = q () => (float[1] d) { d = Neg(x) }"
    )
    body = f"k = If(f)<{branches}> {LOOP} v = Abs(k) y = {loop('v_1', 'v')}"
    interface = "(float[1] x, bool f) => (float[1] y)"
    made = model(interface, body, s=np.array([100], np.float32))
    keeps(made, "merge", x=np.ones(1, np.float32), f=np.array(1, bool))


def test_the_overload_of_a_function_is_kept() -> None:
    text = '<domain: "local", opset_import: ["": 13]> f (a) => (b) {{ b = {}(a) }}'
    functions = "\n".join(text.format(op) for op in ("Relu", "Neg"))
    made = model("(float[1] x) => (float[1] y)", "y = local.f(x)", 13, functions)
    made.functions[0].overload, made.functions[1].overload = "one", "two"
    made.graph.node[0].overload = "two"
    keeps(made, "cse", x=np.ones(1, np.float32))


def test_an_attribute_called_captures_is_kept() -> None:
    text = '<domain: "local", opset_import: ["": 13]> f <captures> (a, d) => (b) {'
    ints = "k = Constant<value_ints: ints = @captures>() j = Cast<to = 1>(k)"
    functions = f"{text} {ints} e = Sub(a, d) b = Add(e, j) }}"
    body = "y = local.f<captures = [1]>(x, z)"
    made = model("(float[1] x, float[1] z) => (float[1] y)", body, 13, functions)
    keeps(made, "cse", x=np.ones(1, np.float32), z=np.zeros(1, np.float32))


def test_a_sequence_under_two_names_before_operator_set_14() -> None:
    interface = "(float[2] x) => (seq(float[2]) y, seq(float[2]) z)"
    made = model(interface, "y = SequenceConstruct(x) z = SequenceConstruct(x)")
    keeps(made, "cse", x=np.ones(2, np.float32))


# Numbers that compare equal, or do not fit


def test_channels_that_differ_by_the_sign_of_zero_stay_apart() -> None:
    body = "h = MatMul(x, w) d = Div(h, z) s = Sigmoid(d) y = MatMul(s, v)"
    held = {"w": [[1, 1]], "z": [0.0, -0.0], "v": [[1], [2]]}
    floats = {name: np.array(a, np.float32) for name, a in held.items()}
    keeps(model("(float[1, 1] x) => (float[1, 1] y)", body, **floats), "merge", x=ONE)


def test_attributes_that_differ_by_the_sign_of_zero_stay_apart() -> None:
    body = """p = LeakyRelu<alpha = 0.0>(x) q = LeakyRelu<alpha = -0.0>(x)
        y = Reciprocal(p) z = Reciprocal(q)"""
    made = model("(float[1, 1] x) => (float[1, 1] y, float[1, 1] z)", body)
    keeps(made, "cse", x=-ONE)


def test_infinite_channels_stay_apart() -> None:
    held = {"w": [[1, 1]], "b": [np.inf, np.inf], "v": [[2], [-1]]}
    floats = {name: np.array(a, np.float32) for name, a in held.items()}
    body = "h = Gemm(x, w, b) y = MatMul(h, v)"
    keeps(model("(float[1, 1] x) => (float[1, 1] y)", body, **floats), "merge", x=ONE)


def test_a_norm_that_makes_half_precision_weights_vanish_is_not_folded() -> None:
    held = {"w": [[[1e-3]]], "s": [1e-4], "b": [0], "m": [0], "v": [1]}
    halves = {name: np.array(a, np.float16) for name, a in held.items()}
    body = "c = Conv(x, w) y = BatchNormalization(c, s, b, m, v)"
    made = model("(float16[1, 1, 1] x) => (float16[1, 1, 1] y)", body, 14, **halves)
    keeps(made, "fold-batchnorm", x=np.full((1, 1, 1), 3e4, np.float16))


def test_axes_may_be_one_number() -> None:
    body = "h = MatMul(x, w) y = Unsqueeze(h, a)"
    made = model("(float[1, 1] x) => (float[1, 1, 1] y)", body, w=ONE, a=np.array(1))
    keeps(made, "merge", x=ONE)


# What held


def image(body: str, opset: int = 13, more: str = "", /, **held: Array) -> onnx.ModelProto:
    """A model in which ``h`` has four channels, of which the first and the last are equal."""
    start = "h = Conv(x, w, b) "
    interface = f"(float[n, 1, 4, 4] x) => (float[i, j, k, l] y{more})"
    return model(interface, start + body, opset, w=ROWS, b=BIAS, **held)


def ramp(*shape: int) -> Array:
    return np.linspace(-1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)


AROUND = np.array([0, 2, 1, 0, 0, 3, 0, 1])
TWICE = np.concatenate([ramp(2, 1, 2, 2)] * 4)
HELD = {
    "pads that two nodes share": image(
        "p = Pad(h, a) r = Relu(p) q = Pad(r, a) y = Conv(q, u)", a=AROUND, u=ramp(2, 14, 1, 1)
    ),
    "pads that are an output": image(
        "p = Pad(h, a) y = Conv(p, u)", 13, ", int64[8] a", a=AROUND, u=ramp(2, 9, 1, 1)
    ),
    "pads that crop": image(
        "p = Pad(h, a) y = Conv(p, u)", a=np.array([0, -1, 0, 0, 0, 0, 0, 0]), u=ramp(2, 3, 1, 1)
    ),
    "pads of some axes": image(
        "p = Pad(h, a, , e) y = Conv(p, u)",
        18,
        a=np.array([1, 1]),
        e=np.array([1]),
        u=ramp(2, 6, 1, 1),
    ),
    "pads with a border that is computed": image(
        "e = ReduceMax<keepdims = 0>(x) p = Pad(h, a, e) y = Conv(p, u)",
        a=AROUND,
        u=ramp(2, 9, 1, 1),
    ),
    "depthwise with two outputs for each input": image(
        "d = Conv<group = 4>(h, e) y = Conv(d, u)", e=TWICE, u=ramp(2, 8, 1, 1)
    ),
    "transposed convolution of uneven size": image(
        "y = ConvTranspose<strides = [2, 2], output_padding = [1, 1]>(h, u)", u=ramp(4, 2, 3, 3)
    ),
    "a value beside itself": image("c = Concat<axis = 1>(h, h) y = Conv(c, u)", u=ramp(2, 8, 1, 1)),
    "slope for each column": image("p = PRelu(h, s) y = Conv(p, u)", s=BIAS, u=ramp(2, 4, 1, 1)),
    "half a pixel further on the axis that stays": image(
        """r = Resize<nearest_mode = "ceil", mode = "nearest",
            coordinate_transformation_mode = "tf_half_pixel_for_nn">(h, e, s) y = Conv(r, u)""",
        11,
        e=NONE,
        s=np.array([1, 1, 2, 1], np.float32),
        u=ramp(2, 4, 1, 1),
    ),
    "a weight that is an output": image(
        "y = Conv(h, u)", 13, ", float[4, 1, 1, 1] w", u=ramp(2, 4, 1, 1)
    ),
}


@pytest.mark.parametrize("what", HELD)
def test_held(what: str) -> None:
    keeps(HELD[what], x=IMAGE)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, 4, -1, -3, -4])
def test_an_image_flattened_before_any_axis(axis: int) -> None:
    columns = int(np.prod((1, 4, 4, 4)[axis:])) if axis < 4 else 1
    body = f"h = Conv(x, w, b) f = Flatten<axis = {axis}>(h) y = MatMul(f, u)"
    interface = "(float[1, 1, 4, 4] x) => (float[i, 2] y)"
    keeps(model(interface, body, w=ROWS, b=BIAS, u=ramp(columns, 2)), x=IMAGE)


@pytest.mark.parametrize(
    "sizes", [[1, 4, 16], [0, 4, -1], [0, 0, -1], [0, -1, 16], [0, 64], [-1], [4, 16], [1, 8, 8]]
)
def test_sizes_of_a_reshape_there_and_back(sizes: list[int]) -> None:
    body = "h = Conv(x, w, b) r = Reshape(h, s) q = Relu(r) p = Reshape(q, t) y = Conv(p, u)"
    held = {"s": np.array(sizes), "t": np.array([1, 4, 4, 4]), "u": ramp(2, 4, 1, 1)}
    interface = "(float[1, 1, 4, 4] x) => (float[1, 2, 4, 4] y)"
    keeps(model(interface, body, w=ROWS, b=BIAS, **held), x=IMAGE)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (3, 1), (3, 4), (1, 1)])
@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_with_any_form_of_its_third_operand(shape: tuple[int, ...], turned: int) -> None:
    weight = np.array([[1, 2, 3, 1], [4, 5, 6, 4]], np.float32)
    bias = np.broadcast_to(BIAS, (3, 4))[: shape[0] if len(shape) > 1 else 1]
    held = {"w": weight.T.copy() if turned else weight, "v": ramp(4, 2)}
    held["c"] = bias[..., : shape[-1] if shape else 1].reshape(shape)
    body = f"h = Gemm<transA = {turned}, transB = {turned}>(x, w, c) y = MatMul(h, v)"
    interface = f"(float[{'2, 3' if turned else '3, 2'}] x) => (float[3, 2] y)"
    keeps(model(interface, body, **held), x=ramp(2, 3) if turned else ramp(3, 2))


@pytest.mark.parametrize(
    ("w", "v"), [((0, 2), (2, 1)), ((1, 2), (2, 0)), ((1, 0), (0, 1))], ids=str
)
def test_axes_of_no_channels(w: tuple[int, int], v: tuple[int, int]) -> None:
    held = {"w": np.ones(w, np.float32), "v": np.ones(v, np.float32)}
    interface = f"(float[3, {w[0]}] x) => (float[3, {v[1]}] y)"
    made = model(interface, "h = MatMul(x, w) y = MatMul(h, v)", **held)
    keeps(made, x=np.ones((3, w[0]), np.float32))


@pytest.mark.parametrize("step", [2, -2])
def test_a_node_that_becomes_two_leaves_their_names_apart(step: int) -> None:
    rows = [[0, 0], [0, -2], [-1, -3], [0, 0], [1, 3], [1, 3], [0, 0], [3, 2]]
    held = {
        "w": np.array(rows, np.float32).reshape(8, 2, 1),
        "v": np.array([[1, 2, 3, 4], [2, 1, 3, 5]], np.float32).reshape(2, 4, 1),
        "s": np.array([0 if step > 0 else -1]),
        "e": np.array([99 * step]),
        "a": np.array([1]),
        "t": np.array([step]),
    }
    body = "h = Conv(x, w) d = Slice(h, s, e, a, t) r = Relu(d) y = Conv(r, v)"
    made = model("(float[1, 2, 4] x) => (float[1, 2, 4] y)", body, **held)
    for node in made.graph.node:
        node.name = f"the {node.op_type} to {node.output[0]}"
    keeps(made, x=ramp(1, 2, 4))


def test_infinite_outputs_are_compared_without_a_warning() -> None:
    held = {"d": np.array([0, 0.3], np.float32)}
    graph = from_proto(model("(float[1, 2] x) => (float[1, 2] y)", "y = Div(x, d)", **held))
    assert SAME_OUTPUTS.refute(graph, graph) is None
