"""Writing PyTorch: the source computes what the graph does, and reads well."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import OrderedDict, defaultdict
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import parser

import redir
from redir import ops
from redir.app import cli
from redir.errors import BadInput, Unsupported
from redir.frontends.onnx import from_proto
from redir.ir import Graph, Node, Source
from redir.ir.interpreter import evaluate
from redir.ir.tensor import Array, Tensor
from redir.runtime.onnxruntime import session
from redir.testing import graphs
from redir.text import parse
from tests.helpers import const, ints, placeholder

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from torch import nn  # noqa: E402 - torch comes first

from redir.backends.torch.writer import identifier, source, to_torch  # noqa: E402

DIGITS = Path(redir.__file__).parent / "demo" / "digits.onnx"
RUFF = find_spec("ruff") is not None


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def run(graph: Graph, feeds: dict[str, Array], module: Any = None) -> list[Any]:
    """What the module of a graph gives, in order, as arrays."""
    made = to_torch(graph) if module is None else module
    given = {identifier(n): torch.from_numpy(np.array(a)) for n, a in feeds.items()}
    with torch.no_grad():
        found = made(**given)
    many = found if isinstance(found, tuple) else (found,)
    return [t.numpy() for t in many]


def assert_same(graph: Graph, feeds: dict[str, Array], rtol: float = 1e-5) -> None:
    """The module gives what the interpreter does, in the same types and shapes."""
    assert_gives(graph, feeds, evaluate(graph, feeds), rtol)


def assert_gives(
    graph: Graph, feeds: dict[str, Array], wanted: dict[str, Any], rtol: float = 1e-5
) -> None:
    found = run(graph, feeds)
    assert len(found) == len(wanted)
    for a, (name, b) in zip(found, wanted.items(), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=1.0)) if b.dtype.kind == "f" else 0
        np.testing.assert_allclose(a, b, rtol=rtol if scale else 0, atol=rtol * scale, err_msg=name)


def model(text: str, opset: int = 18) -> Graph:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    return from_proto(parser.parse_model(header + text))


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Drawn graphs


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_drawn_graphs_compute_the_same(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.integers(-3, 4, [d if isinstance(d, int) else 2 for d in v.type.shape or ()])
        for name, v in graph.inputs.items()
    }
    arrays = {name: a.astype(np.float32) for name, a in feeds.items()}
    if any(n.op.domain == "custom" for n in graph.walk()):
        with pytest.raises(Unsupported, match=r"custom\.Mix"):
            to_torch(graph)
        return
    assert_same(graph, arrays)


# Operators, one by one, against the interpreter


X = drawn(2, 4, 7, 6)
W, B = drawn(6, 4, 3, 3, seed=1), drawn(6, seed=2)
N = np.array([-7, -3, 4, 8], np.int64)
IMAGE = "float[n, 4, 7, 6] x"
CASES: dict[str, tuple[str, int]] = {
    "relu6": ("y = Clip(x, lo, hi)", 18),
    "clip above": ("y = Clip(x, , hi)", 18),
    "clip below": ("y = Clip(x, lo)", 18),
    "old clip": ("y = Clip <min = 0.1> (x)", 6),
    "softmax": ("y = Softmax <axis = 1> (x)", 18),
    "lrn": ("y = LRN <size = 3, alpha = 0.1> (x)", 18),
    "max pool": ("y = MaxPool <kernel_shape = [3, 2], pads = [1, 0, 0, 1]> (x)", 18),
    "max pool, rounding up": (
        "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x)",
        18,
    ),
    "max pool, same": (
        'y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"> (x)',
        18,
    ),
    "average": ("y = AveragePool <kernel_shape = [2, 3], pads = [0, 1, 0, 1]> (x)", 18),
    "average, uneven": ("y = AveragePool <kernel_shape = [2, 3], pads = [0, 1, 1, 0]> (x)", 18),
    "average with pads": (
        "y = AveragePool <kernel_shape = [2, 3], pads = [0, 1, 1, 0], count_include_pad = 1> (x)",
        18,
    ),
    "lp pool": ("y = LpPool <kernel_shape = [2, 2], p = 2> (x)", 18),
    "global": ("a = GlobalAveragePool(x) b = GlobalMaxPool(x) y = Add(a, b)", 18),
    "depth to space": ("y = DepthToSpace <blocksize = 2> (x)", 18),
    "depth to space, CRD": ('y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', 18),
    "reductions": (
        (
            "a = ReduceL1 <keepdims = 0, axes = [1]> (x) b = ReduceL2 <keepdims = 0, axes = [1]> (x"
            ") c = ReduceLogSumExp <keepdims = 0, axes = [1]> (x) d = Add(a, b) y = Add(c, d)"
        ),
        13,
    ),
    "more reductions": (
        "a = ReduceProd <axes = [1, 2]> (x) b = ReduceSumSquare <axes = [-1]> (x) y = Mul(a, b)",
        13,
    ),
    "slices": (
        "y = Slice(x, starts, ends, axes, steps)",
        18,
    ),
    "reflected": ('y = Pad <mode = "reflect"> (x, pads)', 18),
    "edges": ('y = Pad <mode = "edge"> (x, pads)', 18),
    "pads of a value": ("y = Pad(x, pads, hi)", 18),
    "flatten": ("y = Flatten <axis = 2> (x)", 18),
    "flatten all": ("y = Flatten <axis = 0> (x)", 18),
    "gather from the end": ("y = Gather <axis = 1> (x, places)", 18),
    "squeeze": ("a = Unsqueeze(x, axes) y = Squeeze(a, axes)", 18),
    "shapes": (
        "s = Shape(x) k = Gather(s, zero) m = Concat <axis = 0> (k, minus) y = Reshape(x, m)",
        18,
    ),
    "top": ("y, i = TopK <axis = 1> (x, two)", 18),
    "greatest place": ("y = ArgMax <axis = 1, select_last_index = 1> (x)", 18),
    "cumulated": ("y = CumSum <exclusive = 1, reverse = 1> (x, one)", 18),
    "activations": (
        (
            "a = Elu <alpha = 0.5> (x) b = Selu(a) c = Celu(b) d = HardSigmoid(c) e = HardSwish(d)"
            " f = Softplus(e) g = Softsign(f) h = ThresholdedRelu <alpha = 0.1> (g) y = Shrink(h)"
        ),
        18,
    ),
    "gelus": ('a = Gelu(x) y = Gelu <approximate = "tanh"> (a)', 20),
    "one hot": (
        "i = ArgMax <axis = 1, keepdims = 0> (x) y = OneHot <axis = 1> (i, four, values)",
        18,
    ),
    "tile": ("y = Tile(x, tiles)", 18),
    "expand": ("y = Expand(x, wide)", 18),
    "nonzero": ("a = Relu(x) y = NonZero(a)", 18),
    "where": ("c = Greater(x, lo) y = Where(c, x, hi)", 18),
    "quantised": (
        "q = QuantizeLinear(x, scale, middle) y = DequantizeLinear(q, scale, middle)",
        18,
    ),
    "dynamic": ("q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)", 18),
    "normalised": ("y = LpNormalization <axis = 1> (x)", 18),
    "mean and variance": ("y = MeanVarianceNormalization(x)", 18),
    "instance norm": ("y = InstanceNormalization(x, four_a, four_b)", 18),
    "group norm": ("y = GroupNormalization <num_groups = 2> (x, four_a, four_b)", 21),
    "layer norm": ("y = LayerNormalization <axis = -1> (x, six_a, six_b)", 18),
    "prelu": ("y = PRelu(x, slopes)", 18),
    "if": (
        (
            "s = ReduceSum <keepdims = 0> (x) c = Greater(s, lo) y = If (c) <"
            " then_branch = t () => (float[n, 4, 7, 6] p) { p = Relu(x) },"
            " else_branch = e () => (float[n, 4, 7, 6] q) { q = Neg(x) }>"
        ),
        18,
    ),
    "loop": (
        (
            "y = Loop (trips, , x) <body = b (int64 i, bool c, float[n, 4, 7, 6] v) =>"
            " (bool d, float[n, 4, 7, 6] w) { d = Identity(c) w = Mul(v, hi) }>"
        ),
        18,
    ),
    "scatter": ("y = ScatterElements <axis = 1> (x, spots, updates)", 18),
    "einsum": ('y = Einsum <equation = "nchw,ncdw->nhd"> (x, x)', 18),
    "space to depth": ("p = Pad(x, odd) y = SpaceToDepth <blocksize = 2> (p)", 18),
}
CONSTANTS: dict[str, Array] = {
    "lo": np.array(0, np.float32),
    "hi": np.array(6, np.float32),
    "starts": np.array([-1, 0, 1], np.int64),
    "ends": np.array([-9, 9, -1], np.int64),
    "axes": np.array([3, 0, 2], np.int64),
    "steps": np.array([-2, 1, 2], np.int64),
    "pads": np.array([0, 1, 2, 1, 0, 0, 1, 2], np.int64),
    "odd": np.array([0, 0, 1, 0, 0, 0, 0, 0], np.int64),
    "places": np.array([-1, 0, 2], np.int64),
    "zero": np.array([0], np.int64),
    "one": np.array(1, np.int64),
    "two": np.array([2], np.int64),
    "four": np.array(4, np.int64),
    "minus": np.array([-1], np.int64),
    "values": np.array([-1, 2], np.float32),
    "tiles": np.array([1, 2, 1, 1], np.int64),
    "wide": np.array([3, 1, 1, 1, 6], np.int64),
    "scale": np.array(0.02, np.float32),
    "middle": np.array(120, np.uint8),
    "four_a": drawn(4),
    "four_b": drawn(4, seed=3),
    "six_a": drawn(6),
    "six_b": drawn(6, seed=3),
    "slopes": drawn(4, 1, 1),
    "trips": np.array(3, np.int64),
    "spots": np.array([[[[0]], [[-1]]]], np.int64),
    "updates": np.array([[[[9]], [[8]]]], np.float32),
}


def case(text: str, opset: int, kind: str = "float") -> Graph:
    outputs = f"{kind} y" if kind else "y"
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    proto = parser.parse_model(f"{header} g ({IMAGE}) => ({outputs}) {{ {text} }}")
    proto.graph.output[0].ClearField("type")
    names = {i for n in proto.graph.node for i in [*n.input, *_captured(n)]}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(CONSTANTS[name], name) for name in sorted(names & {*CONSTANTS})
    )
    return from_proto(proto)


def _captured(node: onnx.NodeProto) -> list[str]:
    return [i for a in node.attribute for n in a.g.node for i in n.input]


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_the_same(name: str) -> None:
    assert_same(case(*CASES[name]), {"x": X})


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_old_softmax_takes_all_axes_behind_for_one(op: str, axis: int) -> None:
    graph = case(f"y = {op} <axis = {axis}> (x)", 11)
    assert_gives(graph, {"x": X}, session(graph)({"x": X}))  # onnx's reference takes one axis


@pytest.mark.parametrize("name", CASES)
def test_the_batch_may_be_of_another_size(name: str) -> None:
    if name != "loop":
        assert_same(case(*CASES[name]), {"x": drawn(3, 4, 7, 6, seed=9)})


@pytest.mark.parametrize("attrs", [
    {},
    {"pads": (1, 1, 1, 1), "strides": (2, 1)},
    {"pads": (0, 1, 2, 1)},
    {"auto_pad": "SAME_LOWER", "strides": (2, 2)},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "VALID", "dilations": (2, 1)},
])  # fmt: skip
def test_a_convolution_of_every_sort(attrs: Any) -> None:
    x = placeholder("n", 4, 7, 6)
    shared = const(W)
    for y in (
        ops.Conv(x, const(W), const(B), **attrs),
        ops.Conv(ops.Conv(x, shared), const(drawn(2, 6, 1, 1))),
    ):
        assert_same(Graph({"x": x}, {"y": y}), {"x": X})


@pytest.mark.parametrize("attrs", [
    {},
    {"strides": (2, 2), "output_padding": (1, 0)},
    {"pads": (1, 0, 0, 1), "strides": (2, 1)},
    {"auto_pad": "SAME_UPPER", "strides": (2, 2)},
    {"output_shape": (14, 13), "strides": (2, 2)},
    {"group": 2},
])  # fmt: skip
def test_a_transposed_convolution_of_every_sort(attrs: Any) -> None:
    x = placeholder(2, 4, 7, 6)
    y = ops.ConvTranspose(x, const(drawn(4, 3, 3, 2)), **attrs)
    assert_same(Graph({"x": x}, {"y": y}), {"x": X})


@pytest.mark.parametrize("how", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [2.0, 1.5, 0.6])
def test_a_resize_of_every_sort(mode: str, how: str, scale: float) -> None:
    x = placeholder("n", 4, 7, 6)
    modes = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
    for rounding in modes if mode == "nearest" else ["floor"]:
        attrs: dict[str, Any] = {
            "mode": mode, "coordinate_transformation_mode": how, "nearest_mode": rounding
        }  # fmt: skip
        y = ops.Resize(x, ops.Absent(), const([1.0, 1.0, scale, scale]), **attrs)
        graph = Graph({"x": x}, {"y": y})
        assert_gives(graph, {"x": X}, session(graph)({"x": X}), 1e-4)


def test_nearest_neighbours_of_operator_set_10_are_those_of_onnxruntime() -> None:
    x = placeholder("n", 4, 7, 6)
    op = ops.lookup("Resize", 10)
    assert op is not None
    y = Node(op, (x, const([1.0, 1.0, 2.0, 0.6])), {"mode": "nearest"})
    graph = Graph({"x": x}, {"y": y.outputs[0]}, opset={"": 10})
    assert_gives(graph, {"x": X}, session(graph)({"x": X}))


@pytest.mark.parametrize("trips", [0, 2])
@pytest.mark.parametrize("carried", [0, 1])
def test_a_loop_that_may_never_run(trips: int, carried: int) -> None:
    state = "Add(v, x)" if carried else "Identity(x)"
    inner = f"co = Identity(c) {'vo' if carried else 's'} = {state}"
    inner += " s = Mul(v, x)" if carried else ""
    given = "int64 i, bool c" + ", float[2, 3] v" * carried
    gives = "bool co" + ", float[2, 3] vo" * carried + ", float[2, 3] s"
    body = f"b ({given}) => ({gives}) {{ {inner} }}"
    outs, start = ("w, y", ", x") if carried else ("y", "")
    types = "float[2, 3] w, " * carried + "float[k, 2, 3] y"
    call = f"{outs} = Loop <body = {body}> (m, go{start})"
    graph = model(f"g (float[2, 3] x, int64 m, bool go) => ({types}) {{ {call} }}")
    feeds: dict[str, Any] = {"x": drawn(2, 3), "m": np.array(trips), "go": np.ones((), bool)}
    assert_gives(graph, feeds, session(graph)(feeds))


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, 0]])
def test_pads_of_axes_that_are_given_at_run_time(axes: list[int]) -> None:
    x = placeholder(2, 4, 7, 6)
    pads, some = (placeholder(n, dtype=np.int64) for n in (4, 2))
    graph = Graph({"x": x, "p": pads, "a": some}, {"y": ops.Pad(x, pads, ops.Absent(), some)})
    feeds = {"x": X, "p": np.array([1, 2, 0, 1]), "a": np.array(axes)}
    assert_gives(graph, feeds, session(graph)(feeds))


def test_a_norm_of_zeros_is_zeros() -> None:
    x = placeholder(2, 3)
    graph = Graph({"x": x}, {"y": ops.LpNormalization(x, axis=1, p=2)})
    assert_same(graph, {"x": np.array([[0, 0, 0], [1, 2, 2]], np.float32)})


def test_space_to_depth_with_channels_first() -> None:
    x = placeholder(2, 4, 6, 6)
    op = ops.lookup("SpaceToDepth", 28)
    assert op is not None
    y = Node(op, (x,), {"blocksize": 2, "mode": "CRD"}).outputs[0]
    want = torch.nn.functional.pixel_unshuffle(torch.from_numpy(drawn(2, 4, 6, 6)), 2).numpy()
    assert_gives(Graph({"x": x}, {"y": y}), {"x": drawn(2, 4, 6, 6)}, {"y": want})


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Greater"])
def test_numbers_without_a_sign(name: str, kind: type) -> None:
    x = placeholder("n", dtype=kind)
    y = getattr(ops, name)(x, const([3, 2, 1000, 7], kind))
    assert_same(Graph({"x": x}, {"y": y}), {"x": np.array([2, 9, 40000, 0], kind)})


def test_whole_numbers_wrap_as_they_are_cast() -> None:
    large = ints(2**40 + 5, -3)
    outputs = {"y": ops.Cast(large, to=6), "z": ops.Cast(const([-1, 300], np.int32), to=2)}
    assert_same(Graph({}, outputs), {})


@pytest.mark.parametrize("name", ["Div", "Mod", "Pow", "Min", "Equal", "BitShift"])
def test_whole_numbers(name: str) -> None:
    kind = np.uint8 if name == "BitShift" else np.int64
    attrs = {"direction": "LEFT"} if name == "BitShift" else {}
    x = placeholder("n", dtype=kind)
    y = getattr(ops, name)(x, const([3, 2, 3, 3], kind), **attrs)
    feeds = np.abs(N).astype(kind) if name == "BitShift" else N
    assert_same(Graph({"x": x}, {"y": y}), {"x": feeds})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers(kind: str, gates: int, direction: str) -> None:
    ways, hidden = 1 + (direction == "bidirectional"), 3
    x = placeholder(5, "n", 2)
    weights = [drawn(ways, gates * hidden, n, seed=n) for n in (2, 3, 2 * gates * hidden)]
    weights[2] = weights[2][:, 0]
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    attrs: dict[str, Any] = {"hidden_size": hidden, "direction": direction, **more}
    node = Node(getattr(ops, kind), (x, *map(const, weights)), attrs, arity=2)
    outputs = dict(zip(("y", "h"), node.outputs, strict=True))
    assert_same(Graph({"x": x}, outputs), {"x": drawn(5, 4, 2)}, 1e-4)


def test_attention() -> None:
    names = ("q", "k", "v")
    inputs = {n: placeholder("n", 2, 5, 4) for n in names}
    graph = Graph(inputs, {"y": ops.Attention(*inputs.values(), is_causal=1)}, opset={"": 23})
    assert_same(graph, {n: drawn(3, 2, 5, 4, seed=k) for k, n in enumerate(names)})


# What cannot be written


def test_an_operator_without_a_form_is_named() -> None:
    x = placeholder(1, 4, 4)
    node = Node(ops.NonMaxSuppression, (x, x), source=Source("/head/nms"))
    with pytest.raises(Unsupported, match=r"NonMaxSuppression '/head/nms'"):
        to_torch(Graph({"x": x}, {"y": node.outputs[0]}))


def test_the_command_line_names_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = model(
        "g (float[1, 4, 4] b, float[1, 1, 4] s) => (int64[k, 3] y) { y = NonMaxSuppression(b, s) }"
    )
    redir.save(graph, tmp_path / "m.onnx")
    assert cli.main(["opt", str(tmp_path / "m.onnx"), str(tmp_path / "m.py"), "-p", "cse"]) == 2
    assert "NonMaxSuppression" in capsys.readouterr().err
    assert not (tmp_path / "m.py").exists()


def test_strings_are_refused() -> None:
    with pytest.raises(Unsupported, match="string"):
        to_torch(Graph({}, {"y": ops.Const(value=Tensor(np.array(["a"], object)))}))


def test_weights_of_somebody_else_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"mine")
    with pytest.raises(BadInput, match=r"m\.safetensors"):
        redir.save(redir.load(DIGITS), tmp_path / "m.py")
    assert (tmp_path / "m.safetensors").read_bytes() == b"mine"


# How it reads


def test_the_classes_of_a_module_are_kept() -> None:
    text = source(redir.load(DIGITS))
    assert "self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)" in text
    assert "self.norm = nn.BatchNorm2d(16)" in text
    assert "self.block2 = Block(16, 32)" in text
    assert "self.block3 = Block(32, 64)" in text
    assert "self.linear = nn.Linear(64, 10)" in text
    assert "x = self.block3(self.block2(self.block1(x)))" in text


def test_the_names_of_parameters_are_kept() -> None:
    graph = redir.load(DIGITS)
    names = {n.source.outputs[0] for n in graph.nodes if not n.inputs and n.source}
    held = set(to_torch(graph).state_dict())
    assert names <= held
    assert all(
        name.endswith("num_batches_tracked") or "shortcut.1.bias" in name for name in held - names
    )


def test_what_was_removed_is_said(tmp_path: Path) -> None:
    graph = redir.compress(
        redir.load(DIGITS),
        pipeline="fold-batchnorm,prune{channel_ratio=0.5},eliminate-dead-channels",
    )
    assert "Redundant channels are gone" in source(graph)
    del tmp_path


def written(tmp_path: Path, graph: Graph) -> Path:
    redir.save(graph, tmp_path / "net.py")
    return tmp_path / "net.py"


TRIED = ("digits", "compressed", "if", "slices", "quantised", "dynamic", "loop", "edges")


def tried(name: str) -> Graph:
    if name in CASES:
        return case(*CASES[name])
    graph = redir.load(DIGITS)
    return redir.compress(graph) if name == "compressed" else graph


@pytest.mark.skipif(not RUFF, reason="ruff is not installed")
@pytest.mark.parametrize("name", TRIED)
def test_ruff_finds_nothing(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, tried(name))
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", str(path)]
    assert subprocess.run(command, check=False, capture_output=True, text=True).returncode == 0


@pytest.mark.parametrize("name", TRIED)
def test_the_lines_are_short_and_the_classes_documented(name: str, tmp_path: Path) -> None:
    text = written(tmp_path, tried(name)).read_text()
    assert max(map(len, text.splitlines())) <= 100
    kinds = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)]
    assert all(ast.get_docstring(k) for k in kinds)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = redir.load(DIGITS)
    held = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = written(tmp_path / folder, graph)
        held.append((path.read_bytes(), path.with_suffix(".safetensors").read_bytes()))
    assert held[0] == held[1]


ALONE = """
import importlib.util, sys
sys.modules["redir"] = None
import torch
spec = importlib.util.spec_from_file_location("net", sys.argv[1])
net = importlib.util.module_from_spec(spec)
spec.loader.exec_module(net)
print(net.load()(torch.ones(2, 1, 8, 8)).tolist())
"""


def test_the_source_runs_without_redir(tmp_path: Path) -> None:
    graph = redir.load(DIGITS)
    command = [sys.executable, "-I", "-c", ALONE, str(written(tmp_path, graph))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wanted = evaluate(graph, {"image": np.ones((2, 1, 8, 8), np.float32)})["logits"]
    np.testing.assert_allclose(ast.literal_eval(done.stdout), wanted, rtol=1e-4, atol=1e-4)


def test_importing_redir_imports_no_torch() -> None:
    code = "import redir, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Interface


def test_an_input_with_a_default_need_not_be_given() -> None:
    x, k = (placeholder(2) for _ in range(2))
    held = Tensor(np.array([3, 4], np.float32))
    module = to_torch(Graph({"x": x, "k": k}, {"y": ops.Mul(x, k)}, defaults={"k": held}))
    one = torch.ones(2)
    assert module(one).tolist() == [3, 4]
    assert module(one, one).tolist() == [1, 1]


def test_several_outputs_are_a_tuple() -> None:
    x = placeholder(2)
    found = to_torch(Graph({"a b": x}, {"y": ops.Relu(x), "z": x, "w": const([1.0, 2.0])}))(
        torch.ones(2)
    )
    assert [t.tolist() for t in found] == [[1, 1], [1, 1], [1, 2]]


# What is done with it


def test_it_can_be_trained() -> None:
    module = to_torch(redir.load(DIGITS)).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    x, label = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), label)
        loss.backward()
        assert all(p.grad is not None for p in module.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_it_can_be_exported() -> None:
    module, x = to_torch(redir.load(DIGITS)), torch.rand(2, 1, 8, 8)
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(module, (x,), dynamic_shapes=shapes)
    more = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(program.module()(more), module(more))


def test_it_can_be_moved() -> None:
    module = to_torch(redir.load(DIGITS)).double()
    assert module(torch.rand(2, 1, 8, 8).double()).dtype == torch.float64


# From PyTorch and back


class Inner(nn.Module):  # type: ignore[misc]  # torch need not be installed to check types
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.norm(self.conv(x)))


class Outer(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Inner(3, 8, 1), Inner(8, 8, 1), Inner(8, 12, 2)])
        self.scale = nn.Parameter(torch.full((12,), 2.0))
        self.register_buffer("offset", torch.linspace(0, 1, 12))
        self.table = nn.Embedding(5, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, image: Any, ids: Any) -> dict[str, Any]:
        for block in self.blocks:
            image = block(image)
        x = image.mean((2, 3)) * self.scale + self.offset + self.table(ids)
        return {"logits": self.head(x), "features": [x, (image,)]}


class Twice(nn.Module):  # type: ignore[misc]
    """A module that is called twice, and one whose parts are called by another."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.held = Inner(3, 4, 1)

    def forward(self, x: Any) -> Any:
        y = self.held.conv(x).mean((2, 3))
        y = self.shared(y) + 1
        return self.shared(y)


@pytest.fixture
def outer() -> Any:
    torch.manual_seed(0)
    return Outer().eval()


def examples(count: int = 2) -> tuple[Any, Any]:
    drawn_once = torch.Generator().manual_seed(count)
    return torch.rand(count, 3, 8, 8, generator=drawn_once), torch.arange(count) % 5


def through(module: Any, *args: Any) -> Graph:
    shapes = tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in args)
    return redir.from_torch(module, args, dynamic_shapes=shapes)


def test_a_module_comes_back_with_its_names_and_nested_outputs(outer: Any) -> None:
    back = to_torch(through(outer, *examples()))
    assert {*back.state_dict()} == {*outer.state_dict()}
    assert {n for n, _ in back.named_parameters()} == {n for n, _ in outer.named_parameters()}
    torch.testing.assert_close(back(*examples(5)), outer(*examples(5)))


def test_a_module_comes_back_with_its_classes(outer: Any) -> None:
    text = source(through(outer, *examples()))
    assert "class Outer(nn.Module):" in text
    assert [t for line in text.splitlines() if (t := line.strip()).startswith("Inner(")] == [
        "Inner(3, 8, stride=1),",
        "Inner(8, 8, stride=1),",
        "Inner(8, 12, stride=2),",
    ]
    assert 'return {"logits": z, "features": [y, (x,)]}' in text


def test_a_module_that_is_called_twice_or_in_parts() -> None:
    module, x = Twice().eval(), torch.rand(2, 3, 6, 6)
    back = to_torch(through(module, x))
    used = {n for n in module.state_dict() if not n.startswith("held.norm")}
    assert {*back.state_dict()} == used
    torch.testing.assert_close(back(x), module(x))


def test_a_saved_module_gives_nested_outputs(outer: Any, tmp_path: Path) -> None:
    path = written(tmp_path, through(outer, *examples()))
    spec = spec_from_file_location("net", path)
    assert spec is not None
    assert spec.loader is not None
    net = module_from_spec(spec)
    spec.loader.exec_module(net)
    torch.testing.assert_close(net.load()(*examples()), outer(*examples()))


class Pair(NamedTuple):
    first: Any
    rest: Any


def in_order(x: Any) -> Any:
    return OrderedDict(out=x + 1, aux={"a b": x - 1, 3: x * 2})


def in_a_namedtuple(x: Any) -> Any:
    return Pair(x + 1, rest=[Pair(x - 1, None)])


def in_what_torch_returns(x: Any) -> Any:
    return torch.max(x, 1), x.shape


class Structured(nn.Module):  # type: ignore[misc]
    """A function of one tensor as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


@pytest.mark.parametrize("function", [in_order, in_a_namedtuple, in_what_torch_returns])
def test_outputs_are_nested_as_they_were(function: Any) -> None:
    x = torch.from_numpy(drawn(2, 3))
    module = Structured(function).eval()
    assert repr(to_torch(redir.from_torch(module, (x,)))(x)) == repr(module(x))


def test_a_dict_with_a_default_comes_back_as_a_dict() -> None:
    x = torch.from_numpy(drawn(2, 3))
    module = Structured(lambda x: defaultdict(list, {"a": x + 1})).eval()
    assert repr(to_torch(redir.from_torch(module, (x,)))(x)) == repr({"a": x + 1})


def test_keys_that_are_no_words_come_back_as_places() -> None:
    x = torch.from_numpy(drawn(2, 3))
    module = Structured(lambda x: {(4, 5): x + 1, (6, 7): x}).eval()
    assert repr(to_torch(redir.from_torch(module, (x,)))(x)) == repr({0: x + 1, 1: x})


def test_a_module_may_be_called_as_what_it_gives() -> None:
    x = torch.from_numpy(drawn(2, 3))
    module = type("Pair", (Structured,), {})(in_a_namedtuple).eval()
    assert repr(to_torch(redir.from_torch(module, (x,)))(x)) == repr(module(x))


def test_compress_takes_a_module_in_place_of_surgery(outer: Any) -> None:
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            held = getattr(outer.blocks[1].norm, name)
            held[5] = held[2]
        outer.blocks[1].conv.weight[5] = outer.blocks[1].conv.weight[2]
    small, where = redir.compress(outer, examples(), pipeline="fold-constants,merge")
    torch.testing.assert_close(small(*examples(3)), outer(*examples(3)))
    assert where["blocks.1.conv.weight"] == {
        "name": "blocks.1.conv.weight",
        "channels": {"0": [0, 1, 2, 3, 4, 6, 7]},
    }
    old, new = outer.state_dict(), small.state_dict()
    for name, entry in where.items():
        tensor = old[name]
        for axis, kept in entry["channels"].items():
            tensor = tensor.index_select(int(axis), torch.tensor(kept))
        assert tensor.shape == new[entry["name"]].shape
    small.train()(*examples())["logits"].sum().backward()


class Masked(nn.Module):  # type: ignore[misc]
    """A mask of the least number there is, and a parametrised weight: a part called 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 3))

    def forward(self, x: Any) -> Any:
        least = torch.finfo(torch.float32).min
        return self.conv(x).masked_fill(x[:, :1, 2:] > 0, least).softmax(-1)


def test_the_least_number_and_parts_called_by_numbers() -> None:
    module, x = Masked().eval(), torch.randn(2, 2, 8)
    again = to_torch(redir.from_torch(module, (x,)))
    torch.testing.assert_close(again(x), module(x))


def test_scales_for_other_axes_have_no_form() -> None:
    graph = parse(
        "@graph('g', opset={'': 7})\n"
        "def main(x: float32[1, 2, 4, 4]):\n"
        "    y: float32[_, _, _, _] = Opaque('', 'Upsample', 7)(x, scales=(1.0, 2.0))\n"
        "    return {'y': y}\n"
    )
    with pytest.raises(Unsupported, match="2 scales for 4 axes"):
        to_torch(graph)


def test_a_size_of_an_axis_that_is_not_there_has_no_form() -> None:
    x = placeholder(2, 3)
    size = ops.Gather(ops.Shape(x), ops.constant(np.array(5)))
    with pytest.raises(Unsupported, match="an index is not one of 2"):
        to_torch(Graph({"x": x}, {"y": size}))


@pytest.mark.parametrize("odd", ["strides=(2,)", "dilations=(1, 1, 1)", "pads=(1, 1, 1)"])
def test_a_window_of_other_axes_has_no_form(odd: str) -> None:
    graph = parse(
        "@graph('g', opset={'': 17})\n"
        "def main(x: float32[1, 2, 4, 4]):\n"
        "    y: float32[...] = Opaque('', 'MaxPool', 17)(x, kernel_shape=(2, 2), " + odd + ")\n"
        "    return {'y': y}\n"
    )
    with pytest.raises(Unsupported, match="not those of 2 axes"):
        to_torch(graph)


def test_a_slice_of_unequal_parts_has_no_form() -> None:
    graph = parse(
        "@graph('g', opset={'': 9})\n"
        "def main(x: float32[4, 4]):\n"
        "    y: float32[...] = Opaque('', 'Slice', 1)(x, starts=(0, 1), ends=(2,))\n"
        "    return {'y': y}\n"
    )
    with pytest.raises(Unsupported, match="not equally many"):
        to_torch(graph)
