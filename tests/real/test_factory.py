"""Trained networks from safetensors, by a factory: all that redir writes computes the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import redir
from redir.app.cli import main
from redir.ir.tensor import Array
from redir.runtime.onnxruntime import session
from tests.source_files import imported

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

Net: TypeAlias = Callable[[Array], Array]

FACTORY = """
import torch
from {module} import load


def network():
    return load("{weights}"), (torch.zeros(2, 3, 32, 32),)
"""
CLASSES = {
    "cifar10-resnet20": "cifar_resnet",
    "cifar10-resnet32": "cifar_resnet",
    "cifar10-wide8": "cifar_wide",
}
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
COUNT = 250  # images
BATCHES = (1, 3)
ROUNDING = 1e-5  # of the magnitude of the logits
POINTS = 2.0  # in per cent of accuracy, that hashing may cost on so few images

exactly = pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("cifar10-resnet20", "exact"),
        pytest.param("cifar10-resnet32", "exact", marks=pytest.mark.nightly),
        pytest.param("cifar10-wide8", "exact", marks=pytest.mark.nightly),
    ],
)
hashed = pytest.mark.parametrize(
    ("name", "preset"), [pytest.param("cifar10-resnet20", "red", marks=pytest.mark.nightly)]
)


@pytest.fixture(scope="module")
def cifar(shared: Path) -> tuple[Array, Array]:
    """Normalised images (n, 3, 32, 32) and their labels (n,)."""
    with np.load(shared / "data/cifar10-eval.npz") as data:
        images, labels = data["images"][:COUNT], data["labels"][:COUNT]
    scaled = (images.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)), labels


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the classes, the weights, and a factory for each."""
    made = tmp_path_factory.mktemp("networks")
    for name, module in CLASSES.items():
        shutil.copy(shared / f"models/{name}.safetensors", made)
        shutil.copy(shared / f"models/{module}.py", made)
        text = FACTORY.format(module=module, weights=f"{name}.safetensors")
        (made / f"{name.replace('-', '_')}.py").write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def compressed(folder: Path) -> Callable[[str, str, str], Path]:
    """The file that the command line writes of a network, by a preset, in a format."""

    @cache
    def run(name: str, preset: str, suffix: str) -> Path:
        out = folder / f"{name.replace('-', '_')}_{preset}{suffix}"
        model = f"{name.replace('-', '_')}:network"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.syspath_prepend("")
            assert main(["compress", model, out.name, "--preset", preset]) == 0
        return out

    return run


@pytest.fixture
def original(folder: Path, name: str) -> Net:
    module = imported(folder / f"{CLASSES[name]}.py")
    return in_torch(module.load(folder / f"{name}.safetensors"))


@pytest.fixture
def source(compressed: Callable[[str, str, str], Path], name: str, preset: str) -> Net:
    return in_torch(imported(compressed(name, preset, ".py")).load())


@pytest.fixture
def onnx(compressed: Callable[[str, str, str], Path], name: str, preset: str) -> Net:
    held = session(redir.load(compressed(name, preset, ".onnx")))
    return lambda images: np.asarray(next(iter(held({"x": images}).values())))


def in_torch(module: Any) -> Net:
    def run(images: Array) -> Array:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(images)))

    return run


def accuracy(net: Net, cifar: tuple[Array, Array]) -> float:
    """In per cent."""
    images, labels = cifar
    return 100 * float((net(images).argmax(1) == labels).mean())


def distance(a: Array, b: Array) -> float:
    """The largest difference as a share of the magnitude of the second."""
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


@exactly
@pytest.mark.parametrize("batch", BATCHES)
def test_source_and_onnx_compute_what_the_network_did(
    original: Net, source: Net, onnx: Net, cifar: tuple[Array, Array], batch: int
) -> None:
    images = cifar[0][:batch]
    assert distance(source(images), original(images)) < ROUNDING
    assert distance(onnx(images), original(images)) < ROUNDING


@hashed
@pytest.mark.parametrize("batch", BATCHES)
def test_source_and_onnx_agree_on_hashed_weights(
    source: Net, onnx: Net, cifar: tuple[Array, Array], batch: int
) -> None:
    images = cifar[0][:batch]
    assert distance(source(images), onnx(images)) < ROUNDING


@pytest.mark.nightly  # to within rounding it is the same, as above
@exactly
def test_the_preset_exact_keeps_every_class(
    original: Net, source: Net, onnx: Net, cifar: tuple[Array, Array]
) -> None:
    images, _ = cifar
    classes = [net(images).argmax(1).tolist() for net in (original, source, onnx)]
    assert classes[1:] == classes[:1] * 2
    assert accuracy(source, cifar) == accuracy(original, cifar) > 85


@hashed
def test_the_preset_red_keeps_the_accuracy(
    original: Net, source: Net, cifar: tuple[Array, Array]
) -> None:
    assert accuracy(source, cifar) > accuracy(original, cifar) - POINTS
