"""Small networks of the usual kinds, whose sizes may stay open when they are exported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

TOOLS = Path(__file__).parents[3] / "shared/tools"
if TOOLS.is_dir():
    sys.path.insert(0, str(TOOLS))
    import torchvision_cpu  # noqa: F401 - lets torchvision be imported without CUDA

import torchvision  # noqa: E402 - behind the operators that it looks for
import transformers  # noqa: E402

from tests.real.open_maps import IMAGES, MAPS, Axes, Network, images  # noqa: E402

BATCH: Axes = {0: "batch"}
TEXT: Axes = {0: "batch", 1: "length"}


class _Result(nn.Module):  # type: ignore[misc]
    """A network that takes one input, or words and a mask, and gives one of its results."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """That result."""
        given = {} if mask is None else {"attention_mask": mask}
        found: Tensor = self.network(x, **given)[self.name]
        return found


def _transformer(kind: str, **more: Any) -> nn.Module:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 24}
    config = getattr(transformers, f"{kind}Config")(**sizes, **more)
    return _Result(getattr(transformers, f"{kind}Model")(config), "last_hidden_state")


def _squares(batch: int, size: int) -> tuple[Tensor, ...]:
    del size
    return (torch.randn(batch, 3, 32, 32),)


def _words(batch: int, size: int) -> tuple[Tensor, ...]:
    words = torch.randint(0, 100, (batch, size // 4))
    mask = torch.ones_like(words)
    mask[-1, -2:] = 0
    return words, mask


def _deeplab() -> nn.Module:
    made = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large
    return _Result(made(weights=None, weights_backbone=None, num_classes=5), "out")


def _vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128
    )


NETWORKS: dict[str, Network] = {
    **MAPS,
    "ResNet-18": Network(lambda: torchvision.models.resnet18(weights=None), IMAGES, images),
    "DeepLabV3": Network(_deeplab, IMAGES, images),
    "ViT": Network(_vit, BATCH, _squares),
    "BERT": Network(lambda: _transformer("Bert"), TEXT, _words),
    "Llama": Network(lambda: _transformer("Llama", num_key_value_heads=2), TEXT, _words),
}
