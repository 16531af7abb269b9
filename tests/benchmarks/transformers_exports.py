"""Write small models of transformers, with random weights, as people export them to ONNX.

``python -m tests.benchmarks.transformers_exports NAME WAY EXPORT FILE``: a process of its own.
``WAY`` is how attention is computed, ``EXPORT`` one of ``EXPORTS``. This needs transformers.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnxruntime.transformers.optimizer import optimize_model
from torch.export import Dim

from tests.benchmarks.transformers_models import CONFIGURATIONS, PARTS, made

EXPORTS = {"TorchScript": 17, "dynamo": 18, "dynamo, Attention": 23}
"""How people export, with the operator set."""
OPTIMISED = ("optimiser", "onnxruntime")
"""What people do to an export: by onnxruntime's optimiser for transformers, or its own."""
KINDS = {
    "BERT": "bert",
    "RoBERTa": "bert",
    "DistilBERT": "bert",
    "ALBERT": "bert",
    "ViT": "vit",
    "DeiT": "vit",
    "Swin": "swin",
    "Whisper encoder": "bart",
    "GPT-2": "gpt2",
    "Llama": "gpt2",
    "Qwen2": "gpt2",
    "Qwen3": "qwen3",
}
"""The architectures, with what onnxruntime's optimiser takes them for."""
HEADS, HIDDEN = 4, 64
_ROWS = {
    **CONFIGURATIONS,
    "Qwen3": (
        "Qwen3Config",
        "Qwen3ForCausalLM",
        {"num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": 2}
        | {"hidden_size": 0, "intermediate_size": 0, "vocab_size": 0, "head_dim": 16},
        "text",
    ),
}
_WIDER = {
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "vocab_size": 500,
    "dim": HIDDEN,
    "hidden_dim": 128,
    "embedding_size": 32,
    "n_embd": HIDDEN,
    "embed_dim": 32,
    "d_model": HIDDEN,
    "encoder_ffn_dim": 128,
}
_OPEN: dict[str, dict[str, dict[int, str]]] = {
    "text": {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")},
    "image": {"pixel_values": {0: "batch"}},
    "spectrum": {"input_features": {0: "batch"}},
}


class First(torch.nn.Module):  # type: ignore[misc]
    """The first output of a model on inputs in a fixed order."""

    def __init__(self, module: Any, names: list[str]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *args: torch.Tensor) -> Any:
        return self.module(**dict(zip(self.names, args, strict=True)))[0]


def export(name: str, way: str, exporter: str, path: Path) -> None:
    """Write the model with open batch, and with open length where it reads text."""
    config_class, model_class, options, kind = _ROWS[name]
    wider = {key: _WIDER.get(key, held) for key, held in options.items()}
    module = made(config_class, model_class, wider, way)
    axes, inputs = _OPEN[kind], _INPUTS[kind]()
    first = First(module.get_encoder() if name in PARTS else module, list(axes))
    options = {"input_names": list(axes), "output_names": ["out"]}
    options["opset_version"] = EXPORTS[exporter]
    if exporter == "TorchScript":
        open_ = {**axes, "out": {0: "batch"}}
        torch.onnx.export(first, inputs, path, dynamo=False, dynamic_axes=open_, **options)
        return
    shapes = tuple({axis: Dim(word) for axis, word in each.items()} for each in axes.values())
    options |= {"dynamo": True, "verbose": False, "external_data": False}
    torch.onnx.export(first, inputs, path, dynamic_shapes=(shapes,), **options)


def optimised(name: str, how: str, source: Path, path: Path) -> None:
    """Write an export as onnxruntime's optimiser leaves it, or as onnxruntime itself does."""
    if how == "onnxruntime":
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.graph_optimization_level, options.optimized_model_filepath = level, str(path)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(source), options, ["CPUExecutionProvider"])
        return
    sizes = (0, 0) if name == "Swin" else (HEADS, HIDDEN)  # which it has to find itself
    made = optimize_model(str(source), KINDS[name], *sizes, opt_level=1)
    made.save_model_to_file(str(path))


def _text() -> tuple[torch.Tensor, ...]:
    mask = torch.tensor([[1] * 10, [1] * 7 + [0] * 3])
    return torch.randint(2, 90, (2, 10)), mask


_INPUTS: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
    "text": _text,
    "image": lambda: (torch.randn(2, 3, 32, 32),),
    "spectrum": lambda: (torch.randn(2, 80, 40),),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    model, attention, how, file = sys.argv[1:5]
    if how in OPTIMISED:
        optimised(model, how, Path(attention), Path(file))
    else:
        export(model, attention, how, Path(file))
