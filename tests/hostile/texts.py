"""Text that tries to leave the place it is put in, and models that hold it everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

STEERING = (
    "\x1b[31mred\x1b]0;title\x07",
    "over\rwritten\x08\x7f",
    "two\nlines\u2028three\x0cfour",
    "\x9b31m\x85",
    "\u202egpj.exe\u2066\u200f\u200b\ufeff",
    "tag\U000e0041\U000e007f",
)
MARKUP = ("enc[/conv]", "[bold]b[/bold]", ":smiley:", "[link=http://x]y[/link]", "$x_{$", "</svg>&")
CODE = (
    'x"""\nimport os\nos.abort()\n"""',
    "a\\N{x}\\",
    "'); __import__('os').abort(); ('",
    '"+__import__("os").abort()+"',
    "{__import__('os').abort()}",
    "__import__('os').abort()",
    "os",
    "\uff4f\uff53",
    "__init__",
    "__class__.__base__",
    "None",
    "class",
    "self",
    "build",
    "load",
    "torch",
    "torch.os",
    "nn",
    "F",
    "forward",
    "1e9",
    "0",
    "\ue0000\ue003",
    "\ue001a.b\ue003",
    "\ue002size=1\ue003",
    "IMPORTS",
    "a.b.__dict__.c",
    "x" * 5000,
    "",
)
HOSTILE = (*STEERING, *MARKUP, *CODE)

_NAMES = frozenset(
    """NodeProto.input NodeProto.output ValueInfoProto.name TensorProto.name FunctionProto.input
    FunctionProto.output TensorAnnotation.tensor_name ShardingSpecProto.tensor_name""".split()
)  # what refers to one another
MEANING = frozenset(
    """NodeProto.op_type NodeProto.domain NodeProto.overload AttributeProto.name AttributeProto.s
    AttributeProto.ref_attr_name AttributeProto.strings OperatorSetIdProto.domain
    FunctionProto.name FunctionProto.domain FunctionProto.overload FunctionProto.attribute
    TensorProto.string_data""".split()
)  # what says what a model computes
_FOUND_BY = frozenset({"StringStringEntryProto.key", "TensorProto.raw_data"})
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


@dataclass(frozen=True)
class Place:
    """A text in a message: which field, and how it is read and written."""

    kind: str
    message: Message
    field: str
    index: int | None = None

    @property
    def text(self) -> str:
        held = getattr(self.message, self.field)
        held = held if self.index is None else held[self.index]
        return held if isinstance(held, str) else held.decode()

    def write(self, text: str) -> None:
        """Put ``text`` there."""
        held = getattr(self.message, self.field)
        kept = held if self.index is None else held[self.index]
        given = text if isinstance(kept, str) else text.encode()
        if self.index is None:
            setattr(self.message, self.field, given)
        else:
            held[self.index] = given


def places(message: Message) -> Iterator[Place]:
    """Every text that a message holds, or has room for, those of messages in it too."""
    for field in message.DESCRIPTOR.fields:
        kind = field.full_name.removeprefix("onnx.")
        held = getattr(message, field.name)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            parts = held if field.is_repeated else [held] if message.HasField(field.name) else []
            for part in parts:
                yield from places(part)
        elif field.type in _TEXTS and field.is_repeated:
            yield from (Place(kind, message, field.name, k) for k in range(len(held)))
        elif field.type in _TEXTS and (field.containing_oneof is None or held):
            yield Place(kind, message, field.name)


def filled(model: onnx.ModelProto, text: str) -> onnx.ModelProto:
    """The model with ``text`` in all places that do not say what it computes."""
    found: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    names = {"": ""}
    for place in places(found):
        if place.kind in _NAMES:
            names.setdefault(
                place.text, text if len(names) == 1 and text else f"{text}{len(names)}"
            )
            place.write(names[place.text])
        elif place.kind not in MEANING | _FOUND_BY and place.field != "value":
            place.write(text)
    return found


def changed(model: onnx.ModelProto, kind: str, text: str) -> Iterator[onnx.ModelProto]:
    """The model with ``text`` in one place of this kind, for each such place."""
    data = model.SerializeToString()
    count = sum(place.kind == kind for place in places(model))
    for number in range(count):
        found = onnx.ModelProto.FromString(data)
        [p for p in places(found) if p.kind == kind][number].write(text)
        yield found


def example(text: str = "plain") -> onnx.ModelProto:
    """A model that has each thing that ONNX has a name for, with ``text`` in its metadata."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    extra = helper.make_tensor_value_info("extra", TensorProto.FLOAT, [4])
    body = helper.make_graph(
        [helper.make_node("Add", ["joined", "weight.bias"], ["inner"], name="add")],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    scoped = [
        {"module": f"{text}.{text}", "classes": f"{text}/{text}/{text}"},
        {"module": "layer.0.fc", "classes": f"{text}/{text}/{text}/{text}"},
        {
            "pkg.torch.onnx.name_scopes": f"['', '{text}', '{text}.0', 'x']",
            "pkg.torch.onnx.class_hierarchy": f"['{text}', 'a.{text}', '{text}', 'x']",
            text: text,
        },
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "layer.0.fc.weight"], ["hidden"], name="/layer/fc/MatMul"),
        helper.make_node("Elu", ["hidden"], ["active"], name="elu", alpha=0.5),
        helper.make_node("Einsum", ["active", "square"], ["joined"], equation="ij,jk->ik"),
        helper.make_node("Softmax", ["joined"], ["odd"], axis=-1),
        helper.make_node("ReduceMax", ["extra"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["flag"]),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=body, else_branch=body),
        helper.make_node("Add", ["odd", "chosen"], ["sum"], name="sum"),
        helper.make_node("Mul", ["sum", "extra"], ["y"]),
    ]
    for node, notes in zip(nodes, scoped, strict=False):
        node.metadata_props.extend(
            onnx.StringStringEntryProto(key=key, value=value) for key, value in notes.items()
        )
    arrays = {
        "layer.0.fc.weight": np.eye(4),
        "square": np.full((4, 4), 0.5),
        "weight.bias": np.arange(4),
        "extra": np.ones(4),
    }
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    zero = numpy_helper.from_array(np.zeros((), np.float32), "zero")
    graph = helper.make_graph(nodes, "graph", [x, extra], [y], [*tensors, zero])
    graph.value_info.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["n", 4]))
    graph.input[0].type.denotation = "TENSOR"
    graph.quantization_annotation.add(tensor_name="hidden")
    graph.metadata_props.add(key=text, value=text)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.metadata_props.add(key=text, value=text)
    return model
