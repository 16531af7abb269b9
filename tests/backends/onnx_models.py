"""ONNX models written as text, and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from onnx import parser

from redir.backends.onnx import to_proto
from redir.frontends.onnx import from_proto
from redir.ir.tensor import Array
from redir.runtime.onnxruntime import EXACT_PRODUCTS
from tests.extras import ort

HEADER = '<ir_version: 8, opset_import: ["" : 18]>'


def model_of(text: str, header: str = HEADER) -> onnx.ModelProto:
    return tidy(parser.parse_model(header + text))  # type: ignore[no-any-return]


def again(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    return tidy(to_proto(from_proto(model, **options)))  # type: ignore[no-any-return]


def runtime(model: onnx.ModelProto | Path, feeds: dict[str, Array]) -> list[Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(*EXACT_PRODUCTS)
    held = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(held, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def names_of(found: Iterable[Any]) -> list[str]:
    return [f.name for f in found]


def tidy(proto: Any) -> Any:
    """The message without the fields that are set to nothing, which say the same unset."""
    for descriptor, value in proto.ListFields():
        messages = descriptor.message_type is not None
        for message in (
            value if messages and descriptor.is_repeated else [value] if messages else ()
        ):
            tidy(message)
        if value == "":
            proto.ClearField(descriptor.name)
    return proto


RELU = model_of("g (float[n, 3] x) => (float[n, 3] y) { y = Relu(x) }")

OVERRIDABLE = model_of(
    "g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"
)

FUNCTIONS = model_of(
    """g (float[2] x) => (float[2] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["" : 18]> twice (a) => (b) { b = Add(a, a) }""",
    '<ir_version: 8, opset_import: ["" : 18, "local" : 1]>',
)

CUSTOM = model_of(
    """g (float[n, 2] x) => (float[n, 5] y) <float[n, 4] hidden>
    {
        a = Relu(x)
        hidden = com.acme.Mix <how = "well", many = [1, 2]> (a)
        y = com.acme.Out(hidden)
    }""",
    '<ir_version: 8, opset_import: ["" : 18, "com.acme" : 3]>',
)

NESTED = model_of("""g (float[2] x, bool c) => (float[2] y) <float[2] w = {3, 4}> {
    double = Add(x, x)
    y = If (c) <
        else_branch = plain () => (float[2] u) { u = Neg(x) },
        then_branch = outer () => (float[2] r) {
            r = If (c) <
                else_branch = other () => (float[2] t) { t = Identity(x) },
                then_branch = inner () => (float[2] s) { s = Add(double, w) }
            >
        }
    >
}""")

LOOP = model_of("""g (int64 trips, float[2] x) => (float[2] y, float[m, 2] all)
    <float[2] w = {1, 2}> {
    on = Constant <value = bool {1}> ()
    y, all = Loop (trips, on, x) <
        body = b (int64 i, bool cond, float[2] s) => (bool go, float[2] next, float[2] next2) {
            go = Identity(cond)
            next = Add(s, w)
            next2 = Identity(next)
        }
    >
}""")

SCAN = model_of("""g (float[2] start, float[3, 2] xs) => (float[2] last, float[2, 3] all)
    <float[2] w = {1, 2}> {
    last, all = Scan <num_scan_inputs = 1, scan_output_axes = [1], scan_input_directions = [1],
        body = b (float[2] s, float[2] x) => (float[2] t, float[2] u) {
            v = Add(s, x)
            t = Mul(v, w)
            u = Identity(v)
        }
    > (start, xs)
}""")
