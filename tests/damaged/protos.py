"""Damage to ONNX files: to any field of the protobuf, to what sizes say, and to the bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor as Field  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto, defs, helper, numpy_helper

NUMBERS = (
    0, 1, -1, 2, 3, 7, 255, 2**16, 10**6, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1,
    -(2**63),
)  # fmt: skip
REALS = (0.0, -0.0, 1e-45, 1e30, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", "x", "y", "w", "a\0b", "../../etc/passwd", "\x1b[31m", "é" * 50, "n" * 5000, "ai.onnx")
_INTS = {Field.CPPTYPE_INT32, Field.CPPTYPE_INT64, Field.CPPTYPE_UINT32, Field.CPPTYPE_UINT64}
_FLOATS = {Field.CPPTYPE_FLOAT, Field.CPPTYPE_DOUBLE}
_OPERATORS = sorted({s.name for s in defs.get_all_schemas() if not s.domain})


def damaged(seed: bytes, rng: random.Random) -> bytes:
    """A copy of an ONNX file with one to four faults."""
    if rng.random() < 0.25:
        return hit_bytes(seed, rng)
    model = onnx.ModelProto.FromString(seed)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_WAYS)(model, rng)
    data: bytes = model.SerializeToString()
    return data


def hit_bytes(data: bytes, rng: random.Random) -> bytes:
    """``data`` with bytes changed, cut out, doubled or cut off."""
    held = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(held)) if held else 0
        end = min(len(held), start + rng.choice((1, 1, 4, 16, 256)))
        match rng.randrange(5):
            case 0:
                held[start:end] = rng.randbytes(end - start)
            case 1:
                del held[start:end]
            case 2:
                held[start:start] = held[start:end]
            case 3:
                held[start:end] = bytes([rng.choice((0, 127, 128, 255))]) * (end - start)
            case _:
                del held[start + rng.randrange(1 + len(held) - start) :]
    return bytes(held)


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.cpp_type == Field.CPPTYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                yield from _messages(each)


def _hit_field(model: onnx.ModelProto, rng: random.Random) -> None:
    """Change any one field, however deep."""
    found = [m for m in _messages(model) if m.ListFields()]
    message = rng.choice(found)
    field, value = rng.choice(message.ListFields())
    if rng.random() < 0.15:
        message.ClearField(field.name)
    elif field.is_repeated:
        _hit_many(value, field, rng)
    elif field.cpp_type != Field.CPPTYPE_MESSAGE:
        setattr(message, field.name, _other(field, value, rng))


def _hit_many(many: Any, field: Any, rng: random.Random) -> None:
    place = rng.randrange(len(many))
    match rng.randrange(4):
        case 0:
            del many[place]
        case 1 if field.cpp_type == Field.CPPTYPE_MESSAGE:
            many.add().CopyFrom(many[place])
        case 2 if field.cpp_type == Field.CPPTYPE_MESSAGE:
            held = type(many[place]).FromString(many[place].SerializeToString())
            del many[place]
            many.insert(rng.randrange(len(many) + 1), held)
        case _ if field.cpp_type != Field.CPPTYPE_MESSAGE:
            many[place] = _other(field, many[place], rng)


def _other(field: Any, value: Any, rng: random.Random) -> Any:
    if field.cpp_type in _INTS:
        number = rng.choice((*NUMBERS, value + 1, value - 1, 2 * value))
        few = field.cpp_type in {Field.CPPTYPE_INT32, Field.CPPTYPE_UINT32}
        low = 0 if field.cpp_type in {Field.CPPTYPE_UINT32, Field.CPPTYPE_UINT64} else -(2**31)
        return max(low, min(number, 2**31 - 1)) if few else max(-(2**63), min(number, 2**63 - 1))
    if field.cpp_type in _FLOATS:
        return rng.choice((*REALS, value * 2))
    if field.cpp_type == Field.CPPTYPE_ENUM:
        return rng.choice(list(field.enum_type.values_by_number))
    if isinstance(value, bytes):
        return rng.choice((b"", value[:-1], value + b"\0", value * 2, hit_bytes(value, rng)))
    return rng.choice((*TEXTS, value + "_", value[:-1]))


def _graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    return [m for m in _messages(model) if isinstance(m, onnx.GraphProto)]


def _hit_node(model: onnx.ModelProto, rng: random.Random) -> None:
    """Another operator, or another operand."""
    nodes = [m for m in _messages(model) if isinstance(m, onnx.NodeProto)]
    if not nodes:
        return
    node = rng.choice(nodes)
    names = [name for n in nodes for name in (*n.input, *n.output)]
    names += [t.name for t in model.graph.initializer]
    match rng.randrange(4):
        case 0:
            node.op_type = rng.choice(_OPERATORS)
        case 1 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        case 2 if node.output:
            node.output[rng.randrange(len(node.output))] = rng.choice(names)
        case 3:
            rng.choice((node.input, node.output)).append(rng.choice(names))


def _hit_dims(model: onnx.ModelProto, rng: random.Random) -> None:
    """A size of a tensor, or of what the file states of one."""
    tensors = [m for m in _messages(model) if isinstance(m, TensorProto) and m.dims]
    dims = [m for m in _messages(model) if isinstance(m, onnx.TensorShapeProto.Dimension)]
    if tensors and rng.random() < 0.5:
        tensor = rng.choice(tensors)
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif dims:
        rng.choice(dims).dim_value = rng.choice(NUMBERS)


def _hit_weights(model: onnx.ModelProto, rng: random.Random) -> None:
    """Numbers of a constant: not finite, or huge sizes and places."""
    tensors = [m for m in _messages(model) if isinstance(m, TensorProto)]
    sound = [t for t in tensors if not t.external_data and t.data_type in {1, 7}]
    tensor = rng.choice(sound) if sound else None
    try:
        array = None if tensor is None else numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError):  # damaged before
        return
    if tensor is not None and array is not None and array.size:
        kinds = REALS if tensor.data_type == TensorProto.FLOAT else NUMBERS
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice(kinds)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _hit_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = [m for m in _messages(model) if isinstance(m, onnx.NodeProto)]
    held = [n for n in nodes if n.attribute]
    if held and rng.random() < 0.5:
        attribute = rng.choice(rng.choice(held).attribute)
        attribute.type = rng.choice(AttributeProto.AttributeType.values())
    elif nodes:
        node = rng.choice(nodes)
        name = rng.choice(("axis", "to", "perm", "kernel_shape", "group", "body", "value", "odd"))
        number = rng.choice(NUMBERS)
        node.attribute.append(
            helper.make_attribute(name, rng.choice((number, [number, 1], "text", 0.5)))
        )


def _hit_versions(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((*NUMBERS, *range(5, 25)))
    if rng.random() < 0.2:
        model.opset_import.add(domain=rng.choice(TEXTS), version=rng.choice(NUMBERS))


def _hit_external(model: onnx.ModelProto, rng: random.Random) -> None:
    tensors = [m for m in _messages(model) if isinstance(m, TensorProto)]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    tensor.data_location = TensorProto.EXTERNAL
    key = rng.choice(("location", "offset", "length", "checksum"))
    places = ("weights.bin", "model.onnx", "/dev/zero", "/dev/stdin", ".", *TEXTS)
    value = rng.choice(places) if key == "location" else str(rng.choice(NUMBERS))
    tensor.external_data.add(key=key, value=value)


def _hit_sparse(model: onnx.ModelProto, rng: random.Random) -> None:
    size = rng.choice(NUMBERS)
    values = numpy_helper.from_array(np.ones(2, np.float32), rng.choice(("w", "sparse")))
    places = np.array(rng.choice(([0, 1], [0, size], [[0, 0], [1, 1]], [-1, 5])))
    model.graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(places),
                               dims=[size, rng.choice((1, 4, 2**31))])
    )  # fmt: skip


def _add_huge(model: onnx.ModelProto, rng: random.Random) -> None:
    """A node whose result is far larger than the file, read by an output."""
    graph = rng.choice(_graphs(model))
    size = rng.choice((10**5, 2**31, 2**40, 2**62))
    sizes = np.array(rng.choice(([size], [size, size], [1, size], [10**5, 10**5])))
    one, name = np.ones(1, np.float32), f"huge{len(graph.node)}"
    held = {
        "n": sizes,
        "one": one,
        "zero": np.float32(0),
        "many": np.float32(size),
        "step": np.float32(1),
        "depth": np.array(size),
        "pair": np.ones(2, np.float32),
        "ids": np.array([0, 1]),
        "trips": np.array(size),
        "go": np.array(1, bool),
    }
    for key, array in held.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), f"{name}.{key}"))
    kind, operands = rng.choice(_HUGE)
    attributes: dict[str, Any] = {"body": _body(rng)} if kind == "Loop" else {}
    if kind.startswith("Random"):
        attributes = {"shape": [int(n) for n in sizes]}
    if kind in {"Resize", "Upsample"}:
        attributes = {"mode": "nearest"}
    given = [f"{name}.{key}" if key else "" for key in operands]
    outputs = [name, f"{name}.scan"][: 2 if kind == "Loop" else 1]
    graph.node.append(helper.make_node(kind, given, outputs, **attributes))
    graph.output.append(helper.make_empty_tensor_value_info(outputs[-1]))


_HUGE: tuple[tuple[str, list[str]], ...] = (
    ("ConstantOfShape", ["n"]), ("Expand", ["one", "n"]), ("Tile", ["one", "depths"]),
    ("Range", ["zero", "many", "step"]), ("Pad", ["pair", "n"]),
    ("OneHot", ["ids", "depth", "pair"]),
    ("Loop", ["trips", "go", "one"]), ("RandomNormal", []), ("RandomUniform", []),
    ("Resize", ["pair", "", "", "n"]), ("Upsample", ["pair", "pair"]), ("Tile", ["one", "n"]),
    ("EyeLike", ["one"]), ("Multinomial", ["one"]), ("HannWindow", ["depth"]),
)  # fmt: skip


def _body(rng: random.Random) -> onnx.GraphProto:
    scanned = rng.random() < 0.5
    grows = rng.choice(("Identity", "Neg", "Shape"))
    info = helper.make_tensor_value_info
    return helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"]),
         helper.make_node("Concat", ["s", "s"], ["t"], axis=0) if scanned
         else helper.make_node("Identity", ["s"], ["t"]),
         helper.make_node(grows, ["t"], ["u"])],
        "body",
        [info("i", TensorProto.INT64, []), info("a", TensorProto.BOOL, []),
         info("s", TensorProto.FLOAT, None)],
        [info("b", TensorProto.BOOL, []), info("t", TensorProto.FLOAT, None),
         helper.make_empty_tensor_value_info("u")],
    )  # fmt: skip


def _nest(model: onnx.ModelProto, rng: random.Random) -> None:
    """Bodies in bodies, or functions that call themselves."""
    if rng.random() < 0.5:
        graph = helper.make_graph([], "leaf", [], [])
        for depth in range(rng.choice((3, 15, 30))):
            node = helper.make_node(
                "If",
                ["c"],
                [f"o{depth}"],
                then_branch=graph,
                else_branch=graph if depth < 2 else helper.make_graph([], "e", [], []),
            )
            graph = helper.make_graph([node], f"g{depth}", [], [])
        model.graph.node.extend(graph.node)
        return
    name = model.functions[0].name if model.functions else "Again"
    again = helper.make_function(
        "own", name, ["x"], ["y"], [helper.make_node(name, ["x"], ["y"], domain="own")],
        [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)],
    )  # fmt: skip
    model.functions.append(again)
    model.opset_import.add(domain="own", version=1)
    if model.graph.input:
        given = model.graph.input[0].name
        model.graph.node.append(helper.make_node(name, [given], ["again"], domain="own"))


_WAYS: list[Callable[[onnx.ModelProto, random.Random], None]] = [
    _hit_field, _hit_field, _hit_field, _hit_field, _hit_node, _hit_node, _hit_dims, _hit_dims,
    _hit_weights, _hit_weights, _hit_attribute, _hit_versions, _hit_external, _hit_sparse,
    _add_huge, _add_huge, _nest,
]  # fmt: skip
