"""heads: an attention with a rotary embedding loses pairs of channels, however torch exports it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import redir
from redir.cost import macs, parameters
from redir.ir import Graph
from redir.passes import Heads
from redir.passes.factorize.scores import Scores
from redir.passes.factorize.study import study
from redir.pipeline import Pipeline
from redir.runtime.onnxruntime import runner
from redir.statistics import source

torch = pytest.importorskip("torch", reason="torch is not installed")

WIDTH, HEADS, SHARED, EACH = 16, 4, 2, 8
CLEAN = Pipeline.parse("fold-constants,eliminate-identity")


def rotated(x: Any, cos: Any, sin: Any) -> Any:
    first, second = x[..., : EACH // 2], x[..., EACH // 2 :]
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Grouped queries, as in Llama."""

    def __init__(self) -> None:
        super().__init__()
        few = HEADS // SHARED
        self.q = torch.nn.Linear(WIDTH, HEADS * EACH, bias=False)
        self.k, self.v = (torch.nn.Linear(WIDTH, few * EACH, bias=False) for _ in range(2))
        self.o = torch.nn.Linear(HEADS * EACH, WIDTH, bias=False)

    def forward(self, x: Any, cos: Any, sin: Any) -> Any:
        batch, length, _ = x.shape
        parts = (layer(x).view(batch, length, -1, EACH) for layer in (self.q, self.k, self.v))
        q, k, v = (part.transpose(1, 2) for part in parts)
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        k, v = (each.repeat_interleave(SHARED, 1) for each in (k, v))
        scores = torch.softmax(q @ k.transpose(2, 3) * EACH**-0.5, -1)
        return x + self.o((scores @ v).transpose(1, 2).reshape(batch, length, -1))


class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Two blocks that share cosines and sines, computed from frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.register_buffer("speeds", 10 ** (-torch.arange(EACH // 2) / 2.0))

    def forward(self, x: Any) -> Any:
        places = torch.arange(x.shape[1], device=x.device)[None, None].float()
        angles = (self.speeds[None, :, None] @ places).transpose(1, 2)
        both = torch.cat((angles, angles), dim=-1)
        cos, sin = both.cos().unsqueeze(1), both.sin().unsqueeze(1)
        for block in self.blocks:
            x = block(x, cos, sin)
        return x


def exported(way: str, path: Path) -> Graph:
    torch.manual_seed(0)
    module, x = Model().eval(), torch.randn(2, 7, WIDTH)
    if way == "from_torch":
        axes = {0: torch.export.Dim("n"), 1: torch.export.Dim("length")}
        return redir.from_torch(module, (x,), dynamic_shapes=(axes,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n", 1: "length"}},
            opset_version=17,
        )
    return redir.load(path)


@pytest.mark.parametrize("way", ["TorchScript", "from_torch"])
def test_an_export_loses_pairs(way: str, tmp_path: Path) -> None:
    graph = CLEAN.run(exported(way, tmp_path / "model.onnx"))
    found = study(graph, source("drawn"), 8, 0, "", (), ("heads",))
    assert found is not None
    thin = [form for forms in found.ways.values() for form in forms if isinstance(form, Scores)]
    assert [(len(form.units), form.each) for form in thin] == [(EACH // 2, 2)] * 2
    after = Heads(rank=3, statistics="drawn", examples=8)(graph)
    assert parameters(after) < parameters(graph)
    assert macs(after) < macs(graph)
    feeds = {"x": np.random.default_rng(0).normal(size=(3, 5, WIDTH)).astype(np.float32)}
    (y,) = runner(after)(feeds).values()
    assert y.shape == (3, 5, WIDTH)
    assert np.isfinite(y).all()
