"""Small configurations of transformers, with random weights, into redir and back.

``python -m tests.benchmarks.transformers_models [NAME ...]`` prints how far each is from the
module, as a share of the output's magnitude, before and after the preset ``exact``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

TOOLS = Path(__file__).parents[3] / "shared/tools"
if TOOLS.is_dir():
    sys.path.insert(0, str(TOOLS))
    import torchvision_cpu  # noqa: F401 - lets transformers import torchvision without CUDA

import transformers  # noqa: E402 - behind the operators that torchvision looks for

from tests.benchmarks.round_trips import Make, main  # noqa: E402

WAYS = ("sdpa", "eager")  # to compute attention
PARTS = ("Whisper encoder",)  # are the encoder of a model
PLAIN = ("ConvNeXt", "ResNet", "MobileNetV2", "EfficientNet")  # have no attention
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
CONFIGURATIONS: dict[str, tuple[str, str, dict[str, Any], str]] = {
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
        {"depth_multiplier": 0.25, "initializer_range": 0.3},
        "large image",
    ),
    "EfficientNet": (
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}
        | {"initializer_range": 0.3},
        "large image",
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
    "large image": lambda: {"pixel_values": torch.randn(2, 3, 96, 96)},
    "sound": lambda: {"input_values": torch.randn(2, 1000)},
    "spectrum": lambda: {"input_features": torch.randn(2, 80, 40)},
}


def built(name: str, way: str) -> tuple[Any, tuple[()], dict[str, Any]]:
    """The model with random weights and no zeros, and its inputs."""
    config_class, model_class, options, inputs = CONFIGURATIONS[name]
    module = made(config_class, model_class, options, way)
    return module.get_encoder() if name in PARTS else module, (), INPUTS[inputs]()


def made(config_class: str, model_class: str, options: dict[str, Any], way: str) -> Any:
    """A model of these classes with random weights and no zeros."""
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**options)
    config._attn_implementation = way or None
    config.use_cache = False
    module = getattr(transformers, model_class)(config).eval()
    for parameter in module.parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.1)
    return module


def ways(name: str) -> tuple[str, ...]:
    """How the model may compute attention, if it has any."""
    return ("",) if name in PLAIN else WAYS


MODELS: dict[str, Make] = {
    f"{name}, {way}" if way else name: partial(built, name, way)
    for name in CONFIGURATIONS
    for way in ways(name)
}

if __name__ == "__main__":
    main("tests.benchmarks.transformers_models", MODELS)
