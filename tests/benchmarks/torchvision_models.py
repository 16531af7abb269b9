"""torchvision's architectures, with random weights, into redir and back.

``python -m tests.benchmarks.torchvision_models [NAME ...]`` prints how far each is from the module,
as a share of the output's magnitude, before and after the preset ``exact``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.benchmarks.architectures import built, example, names
from tests.benchmarks.round_trips import Make, main

# Those that take images of one size or films of a certain length, or make them smallest.
FIXED = ("vit_", "maxvit", "mvit", "s3d", "inception")


def shape(name: str) -> tuple[int, ...]:
    """That of two inputs, smaller than usual where the architecture takes it."""
    _, channels, *sizes = example(name)
    if not name.startswith(FIXED):
        sizes = [8, 64, 64] if len(sizes) > 2 else [96, 96]
    return 2, channels, *sizes


def made(name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The architecture and its input."""
    return built(name), (torch.randn(shape(name)),), {}


MODELS: dict[str, Make] = {name: partial(made, name) for name in names()}

if __name__ == "__main__":
    main("tests.benchmarks.torchvision_models", MODELS)
