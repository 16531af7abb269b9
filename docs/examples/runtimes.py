"""Compare forms of a model in onnxruntime, OpenVINO and IREE, where these are installed.

Each runtime gets one thread and one example at a time. The models run in turn; the median time of
each is printed, and what share it is of the first. The deviation is how far the outputs of any of
them are from those that onnxruntime gives for it, as a share of the largest of these::

    redir compress model.onnx exact.onnx
    redir compress model.onnx small.onnx --macs 0.5
    python docs/examples/runtimes.py model.onnx exact.onnx small.onnx

OpenVINO is the package ``openvino``, IREE the two ``iree-base-compiler`` and ``iree-base-runtime``.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Run: TypeAlias = Callable[[Mapping[str, Array]], Sequence[Array]]

PAIRS = 200  # of runs
EXAMPLES = 8


def in_onnxruntime(model: onnx.ModelProto) -> Run:
    """Load a model into onnxruntime."""
    import onnxruntime  # noqa: PLC0415 - each runtime is optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    loaded = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda feeds: loaded.run(None, dict(feeds))


def in_openvino(model: onnx.ModelProto) -> Run:
    """Compile a model with OpenVINO, in single precision: by default some processors use less."""
    import openvino  # noqa: PLC0415

    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    return lambda feeds: list(compiled(feeds).values())


def in_iree(model: onnx.ModelProto) -> Run:
    """Compile a model with IREE, for the processor that this runs on."""
    from iree import compiler, runtime  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        source, lowered = Path(folder, "model.onnx"), Path(folder, "model.mlir")
        onnx.save(model, source)
        imported = [sys.executable, "-m", "iree.compiler.tools.import_onnx", source, "-o", lowered]
        subprocess.run([*map(str, imported), "--opset-version", "17"], check=True)  # noqa: S603
        code = compiler.compile_file(
            str(lowered),
            target_backends=["llvm-cpu"],
            input_type="onnx",
            extra_args=["--iree-llvmcpu-target-cpu=host"],
        )
    context = runtime.SystemContext(config=runtime.Config("local-sync"))
    module = runtime.VmModule.copy_buffer(context.instance, code)
    context.add_vm_module(module)
    call = context.modules[module.name][model.graph.name]
    names = [value.name for value in model.graph.input]

    def run(feeds: Mapping[str, Array]) -> list[Array]:
        found = call(*(feeds[name] for name in names))
        several = found if isinstance(found, (list, tuple)) else [found]
        return [array.to_host() for array in several]

    return run


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino, "iree": in_iree}


def single(path: str) -> onnx.ModelProto:
    """Read a model for one example: sizes that it leaves open become 1."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            size.dim_value = size.dim_value or 1
    return model


def drawn(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Draw an input, of normal numbers."""
    rng = np.random.default_rng(seed)
    shapes = {
        v.name: [size.dim_value for size in v.type.tensor_type.shape.dim] for v in model.graph.input
    }
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def medians(runs: Sequence[Run], feeds: Mapping[str, Array]) -> list[float]:
    """Time runs in turn, in seconds."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(PAIRS):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(feeds)
            taken.append(time.perf_counter() - start)
    return [float(np.median(taken)) for taken in times]


def deviation(run: Run, reference: Run, model: onnx.ModelProto) -> float:
    """Compute how far outputs are from those of a reference, over several inputs."""
    furthest = 0.0
    for seed in range(EXAMPLES):
        feeds = drawn(model, seed)
        for found, wanted in zip(run(feeds), reference(feeds), strict=True):
            far = np.max(np.abs(found - wanted)) / np.max(np.abs(wanted))
            furthest = max(furthest, float(far))
    return furthest


def compared(
    models: Sequence[onnx.ModelProto], make: Callable[[onnx.ModelProto], Run]
) -> tuple[list[float], float]:
    """Compute the times of models in a runtime, and how far it is from onnxruntime at most."""
    runs = [make(model) for model in models]
    far = [deviation(r, in_onnxruntime(m), m) for r, m in zip(runs, models, strict=True)]
    return medians(runs, drawn(models[0], 0)), max(far)


def main(paths: Sequence[str]) -> None:
    """Print a line for each runtime."""
    models = [single(path) for path in paths]
    print(f"{'':11}", *(f"{Path(path).stem[-16:]:>16}" for path in paths), f"{'deviation':>10}")
    for name, make in RUNTIMES.items():
        if find_spec(name) is None:
            print(f"{name:11} is not installed")
            continue
        times, far = compared(models, make)
        cells = (f"{1000 * t:8.3f} ms {math.ceil(100 * t / times[0]):3}%" for t in times)
        print(f"{name:11}", *cells, f"{far:10.1e}")


if __name__ == "__main__":
    main(sys.argv[1:])
