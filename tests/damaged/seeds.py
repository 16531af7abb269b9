"""Sound files that are damaged: small graphs of many kinds, the model that ships, real ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "models"
LARGEST = 2**20  # bytes of a real model: larger ones are damaged alike, but take longer

_HEAD = '<ir_version: 9, opset_import: ["" : 17]>'
_CONTROL = """
g (float[2, 3] x, bool c) => (float[2, 3] y, float[4, 2, 3] scanned, float[N, M] z)
<int64 n = {4}, bool go = {1}, float[2, 3] w = {1, 2, 3, 4, 5, 6}> {
  y, scanned = Loop (n, go, x) <body = b (int64 i, bool a, float[2, 3] s)
    => (bool go_on, float[2, 3] t, float[2, 3] u) {
      go_on = Identity (a)
      t = Add (s, w)
      u = Mul (t, t)
    }>
  z = If (c) <then_branch = p () => (float[2, 3] p1) { p1 = Add (x, w) },
              else_branch = q () => (float[2, 3] q1) { q1 = Sub (x, w) }>
}"""
_SIZES = """
g (float[1, 4, 6, 6] x) => (float[1, 4, 12, 12] r, float[1, 4, 8, 8] p, float[N, 4, 6, 6] t,
                            float[A, B] e, float[R] range, float[I, 5] hot, float[C, D] filled)
<float[4] scales = {1, 1, 2, 2}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1},
 int64[4] times = {2, 1, 1, 1}, int64[2] shape = {3, 4}, float[1, 4] row = {1, 2, 3, 4},
 float start = {0}, float stop = {8}, float step = {2}, int64[3] ids = {0, 1, 4}, int64 depth = {5},
 float[2] values = {0, 1}, float roi = {0}> {
  r = Resize (x, , scales)
  p = Pad (x, pads)
  t = Tile (x, times)
  e = Expand (row, shape)
  range = Range (start, stop, step)
  hot = OneHot (ids, depth, values)
  filled = ConstantOfShape <value = float[1] {2}> (shape)
}"""
_NETWORK = """
g (float[N, 3, 8, 8] x) => (float[N, 5] y)
<float[6, 3, 3, 3] w1, float[6] b1, float[6] scale = {1, 1, 2, 2, 1, 1},
 float[6] shift = {0, 0, 1, 1, 0, 0}, float[6] mean = {0, 0, 1, 1, 0, 0},
 float[6] var = {1, 1, 2, 2, 1, 1}, float[6, 1, 3, 3] w2, float[5, 6] w3, float[5] b3> {
  a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
  b = BatchNormalization (a, scale, shift, mean, var)
  c = Relu (b)
  d = Conv <group = 6, pads = [1, 1, 1, 1]> (c, w2)
  e = Add (c, d)
  f = GlobalAveragePool (e)
  h = Flatten (f)
  y = Gemm <transB = 1> (h, w3, b3)
}"""
_ATTENTION = """
g (int64[N, 4] ids) => (float[N, 4, 8] y, int64[N, 4, 2] best)
<float[16, 8] table, float[8, 8] wq, float[8, 8] wk, int64[4] heads = {0, 4, 2, 4},
 int64[3] flat = {0, 4, 8}, float[8] g1 = {1, 1, 1, 1, 1, 1, 1, 1}, int64[1] k = {2}> {
  e = Gather (table, ids)
  n = LayerNormalization (e, g1)
  q = MatMul (n, wq)
  qh = Reshape (q, heads)
  qt = Transpose <perm = [0, 2, 1, 3]> (qh)
  kk = MatMul (n, wk)
  kh = Reshape (kk, heads)
  kt = Transpose <perm = [0, 2, 3, 1]> (kh)
  s = MatMul (qt, kt)
  p = Softmax <axis = -1> (s)
  o = MatMul (p, qt)
  ot = Transpose <perm = [0, 2, 1, 3]> (o)
  y = Reshape (ot, flat)
  v, best = TopK (y, k)
}"""
_SHAPES = """
g (float[N, 4, 6] x) => (float[N, 24] y, float[N, 2, 6] part, float[N, 2, 6] rest)
<int64[1] zero = {0}, int64[1] minus = {-1}, int64[2] halves = {2, 2}> {
  s = Shape (x)
  n = Gather <axis = 0> (s, zero)
  t = Concat <axis = 0> (n, minus)
  y = Reshape (x, t)
  part, rest = Split <axis = 1> (x, halves)
}"""
_QUANTISED = """
g (float[1, 2, 4, 4] x) => (float[1, 3, 4, 4] y)
<float s = {0.1}, uint8 z = {128}, int8[3, 2, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[3] ws = {1, 2, 3},
 int8[3] wz = {0, 0, 0}> {
  q = QuantizeLinear (x, s, z)
  d = DequantizeLinear (q, s, z)
  v = DequantizeLinear <axis = 0> (w, ws, wz)
  y = Conv (d, v)
}"""
_RECURRENT = """
g (float[5, 1, 3] x) => (float[5, 1, 1, 2] y, float[1, 1, 2] last)
<float[1, 8, 3] w, float[1, 8, 2] r, float[1, 16] b> {
  y, last = LSTM <hidden_size = 2> (x, w, r, b)
}"""
_MIXED = """
g (float[2, 3] x) => (float[2, 3] y, float[2, 3] noise, float[3, 2] einsum, float[N] picked)
<int64[2] shape = {2, 3}, float[2] pair = {1, 2}> {
  s = SequenceConstruct (x, x)
  zero = Constant <value_int = 0> ()
  y0 = SequenceAt (s, zero)
  noise = RandomNormalLike (x)
  einsum = Einsum <equation = "ij -> ji"> (x)
  c = Greater (x, y0)
  i = NonZero (c)
  flags = Cast <to = 9> (pair)
  picked = Compress (x, flags)
  y = Where (c, x, y0)
}"""
_FUNCTION = """
<ir_version: 9, opset_import: ["" : 17, "own" : 1]>
g (float[2, 3] x) => (float[2, 3] y) { h = own.Twice (x)  y = own.Twice (h) }
<domain: "own", opset_import: ["" : 17]>
Twice (x) => (y) { two = Constant <value_float = 2.0> ()  y = Mul (x, two) }
"""
_TEXTS = [
    f"{_HEAD}{graph}"
    for graph in (
        _CONTROL,
        _SIZES,
        _NETWORK,
        _ATTENTION,
        _SHAPES,
        _QUANTISED,
        _RECURRENT,
        _MIXED,
    )
]


@cache
def small() -> tuple[bytes, ...]:
    """Sound ONNX files of a few operators."""
    read = [_filled(parser.parse_model(text)) for text in (*_TEXTS, _FUNCTION)]
    return tuple(m.SerializeToString() for m in (*read, _sparse(), _external()))


@cache
def real() -> tuple[bytes, ...]:
    """Models that people use, each of which takes as long as ten small files."""
    paths = [ROOT / "redir" / "demo" / "digits.onnx", *sorted(SHARED.glob("*.onnx"))]
    return tuple(path.read_bytes() for path in paths if path.stat().st_size <= LARGEST)


def _filled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with numbers for the tensors that its text only declares."""
    rng = np.random.default_rng(0)
    for info in model.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        drawn = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(drawn, info.name))
    model.graph.ClearField("value_info")
    return model


def _sparse() -> onnx.ModelProto:
    values = numpy_helper.from_array(np.ones(3, np.float32), "w")
    places = numpy_helper.from_array(np.array([0, 5, 11]))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sparse",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        sparse_initializer=[helper.make_sparse_tensor(values, places, [4, 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _external() -> onnx.ModelProto:
    """One whose weight lies in ``weights.bin``, 48 bytes beside it."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "0", "length": "48"}.items():
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
