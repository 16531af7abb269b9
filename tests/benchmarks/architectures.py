"""Write one of torchvision's architectures, with random weights, as ONNX.

``python tests/benchmarks/architectures.py NAME torchscript|dynamo FILE``: a process of its own,
since an exporter may take more memory than there is.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import torch

TOOLS = Path(__file__).parents[3] / "shared/tools"
if TOOLS.is_dir():
    sys.path.insert(0, str(TOOLS))
    import torchvision_cpu  # noqa: F401 - lets torchvision import beside a torch without CUDA

from torchvision import models  # noqa: E402 - behind the operators that it looks for

NORMS = (torch.nn.modules.batchnorm._NormBase, torch.nn.LayerNorm, torch.nn.GroupNorm)
BIG = 4e8  # parameters that do not fit into one file


def names() -> list[str]:
    """Every architecture for classification, segmentation and video."""
    return [n for m in (models, models.segmentation, models.video) for n in models.list_models(m)]


def example(name: str) -> tuple[int, ...]:
    """The shape of an input that the architecture takes."""
    if name in models.list_models(models.segmentation):
        return (1, 3, 128, 128)
    if name in models.list_models(models.video):
        long = name.startswith("mvit") or name == "s3d"
        return (1, 3, 16, 224, 224) if long else (1, 3, 8, 112, 112)
    return (1, 3, 299, 299) if name == "inception_v3" else (1, 3, 224, 224)


def randomise(module: torch.nn.Module) -> None:
    """Random numbers in all that starts as ones, zeros or next to nothing."""
    rng = torch.Generator().manual_seed(0)
    for part in module.modules():
        held = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, tensor in held:
            factor = isinstance(part, NORMS) and name in {"weight", "running_var"}
            if name == "layer_scale" or factor:
                tensor.data.copy_(torch.rand(tensor.shape, generator=rng) + 0.5)
            elif tensor.is_floating_point() and not tensor.any():
                tensor.data.copy_(torch.randn(tensor.shape, generator=rng) * 0.1)


def built(name: str) -> torch.nn.Module:
    """The architecture ``name`` with random numbers."""
    torch.manual_seed(0)
    backbone = {"weights_backbone": None} if name in models.list_models(models.segmentation) else {}
    module = models.get_model(name, weights=None, **backbone).eval()
    randomise(module)
    return module


def export(name: str, exporter: str, path: Path) -> None:
    """Write the architecture ``name`` by one of torch's two exporters."""
    module = built(name)
    inputs = (torch.randn(example(name)),)
    if exporter == "torchscript":
        torch.onnx.export(module, inputs, path, dynamo=False, opset_version=17)
    else:
        big = sum(p.numel() for p in module.parameters()) > BIG
        torch.onnx.export(module, inputs, path, dynamo=True, verbose=False, external_data=big)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if sys.argv[1:]:
        export(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        print(*names(), sep="\n")
