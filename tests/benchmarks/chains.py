"""Models of any size: chains of layers with drawn weights, which lie in a file beside the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def drawn(path: Path, layers: int, width: int) -> Path:
    """A chain of layers with drawn weights, each with a Relu, every second with an Identity."""
    rng, flow, nodes, held = np.random.default_rng(0), "x", list[onnx.NodeProto](), []
    with path.with_name(path.name + ".data").open("wb") as file:
        for i in range(layers):
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[width, width])
            tensor.data_location = TensorProto.EXTERNAL
            size = 4 * width * width
            place = (("location", path.name + ".data"), ("offset", file.tell()), ("length", size))
            for key, what in place:
                tensor.external_data.add(key=key, value=str(what))
            held.append(tensor)
            weights = rng.standard_normal((width, width), np.float32) * np.sqrt(2 / width)
            file.write(weights.astype(np.float32).data)
            for op, operands in (("MatMul", [f"w{i}"]), ("Relu", []), ("Identity", [])):
                if op != "Identity" or i % 2:
                    nodes.append(helper.make_node(op, [flow, *operands], [f"{op}{i}"]))
                    flow = f"{op}{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", width]) for n in ("x", flow)]
    graph = helper.make_graph(nodes, "drawn", ends[:1], ends[1:], held)
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path
