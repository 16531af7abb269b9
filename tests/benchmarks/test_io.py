"""Reading and writing a model of 100 MB, next to what onnx itself needs for it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from redir.app import tables

LIMIT = 1.5  # times the seconds and the peak memory of onnx
PAIRS = 5

# 48 layers of 724 x 724: 100.6 MB
MAKE = """
import sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
rng = np.random.default_rng(0)
names = [f"w{i}" for i in range(48)]
weights = [numpy_helper.from_array(rng.standard_normal((724, 724), np.float32), n) for n in names]
flow = ["x", *(f"h{i}" for i in range(47)), "y"]
nodes = [helper.make_node("MatMul", [flow[i], n], [flow[i + 1]]) for i, n in enumerate(names)]
x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 724]) for n in "xy")
graph = helper.make_graph(nodes, "main", [x], [y], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.save(model, "inside.onnx")
onnx.save(model, "outside.onnx", save_as_external_data=True, location="outside.bin")
"""

# ru_maxrss is in KiB
MEASURE = """
import json, resource, time
{imports}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
idle, start = peak(), time.perf_counter()
{work}
print(json.dumps([time.perf_counter() - start, peak(), peak() - idle]))
"""

REDIR = "from redir.io.models import load, save"
WORK = {
    "inside": {
        "redir": (REDIR, 'save(load("inside.onnx"), "out.onnx")'),
        "onnx": ("import onnx", 'onnx.save(onnx.load("inside.onnx"), "out.onnx")'),
    },
    "outside": {
        "redir": (REDIR, 'save(load("outside.onnx"), "out.onnx")'),
        "onnx": (
            "import onnx",
            """model = onnx.load("outside.onnx")
onnx.save(model, "out.onnx", save_as_external_data=True, location="out.onnx.data")""",
        ),
    },
}


def run(program: str, folder: Path) -> str:
    """Run ``program`` in a fresh process.

    The shell between keeps the peak memory of this process out of what that one reads of itself.
    """
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("io")
    run(MAKE, made)
    return made


@pytest.mark.bench
@pytest.mark.parametrize("name", ["inside", "outside"])
def test_a_large_model_costs_little_more_than_in_onnx(folder: Path, name: str) -> None:
    found: dict[str, list[list[float]]] = {"redir": [], "onnx": []}
    for _ in range(PAIRS):
        for tool, (imports, work) in WORK[name].items():
            for old in folder.glob("out.*"):
                old.unlink()
            printed = run(MEASURE.format(imports=imports, work=work), folder)
            found[tool].append(json.loads(printed))
    middle = {t: [statistics.median(c) for c in zip(*f, strict=True)] for t, f in found.items()}
    times = [a / b for a, b in zip(middle["redir"], middle["onnx"], strict=True)]
    rows = [(tool, *(f"{number:.2f}" for number in row)) for tool, row in middle.items()]
    print(f"\nweights {name} the model file, median of {PAIRS}")
    head = ("", "seconds", "peak MiB", "MiB above the imports")
    tables.write_table(head, [*rows, ("times", *(f"{t:.2f}" for t in times))])
    assert times[0] <= LIMIT
    assert times[1] <= LIMIT
