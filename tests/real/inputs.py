"""Models to try things on, and arrays that they accept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from redir.frontends.onnx import load
from redir.ir import Graph
from redir.ir.tensor import Array, Type
from redir.runtime.onnxruntime import EXACT_PRODUCTS
from tests.extras import ort

Feeds: TypeAlias = dict[str, Array]

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
SHARED = sorted((Path(__file__).parents[3] / "shared" / "models").glob("*.onnx"))
ONNX = {
    p
    for s in ("pytorch-converted", "pytorch-operator", "simple")
    for p in DATA.glob(f"{s}/*/*.onnx")
}
MODELS = [*SHARED, *sorted(ONNX)]

# What is much like another of them, or takes seconds for what few have: for the night.
REPEATED = {
    "cifar10-resnet32-bn",
    "cifar10-wide8-bn",
    "cls-imagenet-mobilenetv1-0.5-160-deq",
    "det-fastestdet-coco",
    "det-ultraface-rfb320",
    "det-yolox-nano-zoo",
    "ocr-ppocrv3-det-ch-op15",
    "pose-fsanet-1x1",
    "seg-prisma-op7-keras",
    "seg-sinet-portrait",
    "sr-subpixel-x3-op10",
    "vad-silero-v3-lstm-op13",
}

_WORDS = ("monday", "tuesday", "Monday", "x")
_SHAPES: Mapping[tuple[str, str], tuple[int, ...]] = {  # start of the model's name, input
    ("ocr-ppocrv3-det", "x"): (1, 3, 64, 64),
    ("ocr-ppocr-cls", "x"): (1, 3, 48, 192),
    ("kws-oww-melspec", "input"): (1, 16000),
    ("vad-silero-v3", "input"): (1, 512),
    ("vad-silero-v5", "input"): (1, 512),
    ("vad-silero-v5", "state"): (2, 1, 128),
}
_RATE = "sr"  # an input that holds the hertz of another


def name_of(path: Path) -> str:
    """What to call a model in the name of a test."""
    return path.parent.name if path in ONNX else path.stem


def each(
    paths: Sequence[Path], night: Collection[str] = frozenset(REPEATED)
) -> pytest.MarkDecorator:
    """Parametrize ``path`` by models, of which those called one of ``night`` wait for it."""
    params = [
        pytest.param(p, id=name_of(p), marks=[pytest.mark.nightly] * (name_of(p) in night))
        for p in paths
    ]
    return pytest.mark.parametrize("path", params)


@cache
def loaded(path: Path) -> Graph:
    """The graph of a model, read once."""
    return load(path)


def session(path: Path) -> ort.InferenceSession | None:
    """A session that is quiet and repeatable; None where onnxruntime refuses the model."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(*EXACT_PRODUCTS)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - onnxruntime has many, with no base of their own
        return None


original = cache(session)  # for the models that all tests share


def feeds_of(path: Path, seed: int = 0) -> Feeds:
    """Arrays for the inputs of a model: those beside it where there are any."""
    graph = loaded(path)
    types = {name: v.type for name, v in graph.inputs.items() if name not in graph.defaults}
    beside = path.parent / "test_data_set_0"
    files = [beside / f"input_{i}.pb" for i in range(len(types))]
    if all(file.exists() for file in files):
        protos = (TensorProto.FromString(file.read_bytes()) for file in files)
        return {n: numpy_helper.to_array(p) for n, p in zip(types, protos, strict=True)}
    rng = np.random.default_rng(seed)
    return {name: _drawn(path.name, name, t, rng) for name, t in types.items()}


def _drawn(model: str, name: str, type_: Type, rng: np.random.Generator) -> Array:
    open_ = tuple(d if isinstance(d, int) and d > 0 else 2 for d in type_.shape or ())
    known = (s for (start, i), s in _SHAPES.items() if model.startswith(start) and i == name)
    shape = next(known, open_)
    if name == _RATE:
        return np.full(shape, 16000, type_.dtype)
    if type_.dtype == np.dtype(object):
        return np.resize(np.array(_WORDS, object), shape)
    if type_.dtype.kind in "biu":
        return rng.integers(0, 2, shape).astype(type_.dtype)
    return rng.normal(size=shape).astype(type_.dtype)


def outputs_of(held: ort.InferenceSession, feeds: Feeds) -> dict[str, Any]:
    """What onnxruntime computes, by name."""
    names = [output.name for output in held.get_outputs()]
    return dict(zip(names, held.run(None, feeds), strict=True))
