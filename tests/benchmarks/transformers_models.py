"""Small configurations of transformers, with random weights, by ``redir.from_torch``.

``python tests/benchmarks/transformers_models.py [NAME ...]`` compares each with the module and
prints a table: how far onnxruntime is from it, as a share of the output's magnitude.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

TOOLS = Path(__file__).parents[3] / "shared/tools"
if TOOLS.is_dir():
    sys.path.insert(0, str(TOOLS))
    import torchvision_cpu  # noqa: F401 - lets transformers import torchvision without CUDA

import transformers  # noqa: E402 - behind the operators that torchvision looks for

import redir  # noqa: E402
from redir.errors import RedirError  # noqa: E402
from redir.ir import Graph  # noqa: E402
from redir.runtime import session  # noqa: E402

ROUNDING = 1e-5  # as a share of the output's magnitude
WAYS = ("sdpa", "eager")  # to compute attention
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_TEXT = {**_SIZES, "vocab_size": 100}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}
_PATCHES = {**_SIZES, "image_size": 32, "patch_size": 8}
_EDGES = {"num_labels": 5}

# The class of the configuration, that of the model, the options, and what the inputs are.
MODELS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "BERT": ("BertConfig", "BertModel", _TEXT, "text"),
    "DistilBERT": (
        "DistilBertConfig",
        "DistilBertModel",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100},
        "text",
    ),
    "RoBERTa": ("RobertaConfig", "RobertaModel", _TEXT, "text"),
    "ALBERT": ("AlbertConfig", "AlbertModel", {**_TEXT, "embedding_size": 16}, "text"),
    "GPT-2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100},
        "text",
    ),
    "GPT-NeoX": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _TEXT, "text"),
    "Llama": ("LlamaConfig", "LlamaForCausalLM", _GROUPED, "text"),
    "Mistral": ("MistralConfig", "MistralForCausalLM", {**_GROUPED, "sliding_window": 6}, "text"),
    "Qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _GROUPED, "text"),
    "T5 encoder": (
        "T5Config",
        "T5EncoderModel",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 100},
        "text",
    ),
    "ViT": ("ViTConfig", "ViTForImageClassification", {**_PATCHES, **_EDGES}, "image"),
    "DeiT": ("DeiTConfig", "DeiTForImageClassification", {**_PATCHES, **_EDGES}, "image"),
    "Swin": (
        "SwinConfig",
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
        | {"window_size": 4},
        "image",
    ),
    "ConvNeXt": (
        "ConvNextConfig",
        "ConvNextForImageClassification",
        {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2},
        "image",
    ),
    "ResNet": (
        "ResNetConfig",
        "ResNetForImageClassification",
        {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
        "image",
    ),
    "MobileNetV2": (
        "MobileNetV2Config",
        "MobileNetV2ForImageClassification",
        {"depth_multiplier": 0.25},
        "image",
    ),
    "EfficientNet": (
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
        "image",
    ),
    "SegFormer": (
        "SegformerConfig",
        "SegformerForSemanticSegmentation",
        {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 32}
        | {"num_attention_heads": [1, 2, 2, 4]},
        "image",
    ),
    "CLIP vision": ("CLIPVisionConfig", "CLIPVisionModel", _PATCHES, "image"),
    "Wav2Vec2": (
        "Wav2Vec2Config",
        "Wav2Vec2Model",
        {**_SIZES, "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3)}
        | {"num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16}
        | {"num_conv_pos_embedding_groups": 4},
        "sound",
    ),
    "Whisper encoder": (
        "WhisperConfig",
        "WhisperModel",
        {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
        | {"decoder_layers": 1, "decoder_attention_heads": 4, "max_source_positions": 20}
        | {"vocab_size": 100, "pad_token_id": 0},
        "spectrum",
    ),
}


def text() -> dict[str, Any]:
    """Two sentences, of which the second is shorter."""
    mask = torch.tensor([[1] * 10, [1] * 7 + [0] * 3])
    return {"input_ids": torch.randint(2, 90, (2, 10)), "attention_mask": mask}


INPUTS: dict[str, Callable[[], dict[str, Any]]] = {
    "text": text,
    "image": lambda: {"pixel_values": torch.randn(2, 3, 32, 32)},
    "sound": lambda: {"input_values": torch.randn(2, 1000)},
    "spectrum": lambda: {"input_features": torch.randn(2, 80, 40)},
}


def built(name: str, way: str) -> tuple[Any, dict[str, Any]]:
    """The model with random weights and no zeros, and its inputs."""
    torch.manual_seed(0)
    config_class, model_class, options, inputs = MODELS[name]
    config = getattr(transformers, config_class)(**options)
    config._attn_implementation = way
    config.use_cache = False
    module = getattr(transformers, model_class)(config).eval()
    module = module.get_encoder() if name == "Whisper encoder" else module
    for parameter in module.parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.1)
    return module, INPUTS[inputs]()


def lowered(name: str, way: str) -> tuple[Graph, dict[str, Any], list[Any]]:
    """The graph, its feeds, and what the module gives on them."""
    module, kwargs = built(name, way)
    graph = redir.from_torch(module, (), kwargs)
    with torch.no_grad():
        found = module(**kwargs)
    leaves = torch.utils._pytree.tree_leaves(found)
    wanted = [t.numpy() for t in leaves if isinstance(t, torch.Tensor)]
    return graph, {k: t.numpy() for k, t in kwargs.items()}, wanted


def deviation(name: str, way: str) -> float:
    """How far onnxruntime is from the module, as a share of the output's magnitude."""
    graph, feeds, wanted = lowered(name, way)
    found = session(graph)(feeds)
    pairs = zip(found.values(), wanted, strict=True)
    return max(float(np.abs(ours - theirs).max() / np.abs(theirs).max()) for ours, theirs in pairs)


def rows(names: list[str]) -> Iterator[tuple[str, ...]]:
    """What each model gave: a number, or why there is none."""
    for name in names:
        found = []
        for way in WAYS:
            try:
                moved = deviation(name, way)
                found.append(f"{moved:.0e}" if moved <= ROUNDING else f"**{moved:.0e}**")
            except ValueError as error:
                if "attention implementation" not in str(error):
                    raise
                found.append("-")  # there is no attention in this one
            except RedirError as error:
                found.append(" ".join(str(error).split())[:120])
        yield (name, *found)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(f"| model | {' | '.join(WAYS)} |\n| --- | --- | --- |")
    for row in rows(sys.argv[1:] or list(MODELS)):
        print(f"| {' | '.join(row)} |", flush=True)
