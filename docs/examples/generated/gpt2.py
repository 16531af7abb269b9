"""A neural network, written by redir as PyTorch.

It holds 222,272 numbers in 41 tensors. load() gives the module,
its weights read from the file of the same name that ends in .safetensors.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class Attention(nn.Module):
    """The part at blocks.0.attn, blocks.1.attn and 1 more."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(64, 192)
        self.proj = nn.Linear(64, 64)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, 4, 16)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """The part at blocks.0.mlp, blocks.1.mlp and 1 more."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 256)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(256, 64)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """The part at blocks.0, blocks.1 and 1 more."""

    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(64)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(64)
        self.mlp = Mlp()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT2(nn.Module):
    """The whole network."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(500, 64)
        self.wpe = nn.Embedding(128, 64)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.norm = nn.LayerNorm(64)
        self.lm_head = nn.Linear(64, 500, bias=False)

    def forward(self, tokens):
        x = self.wte(tokens)
        x = x + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        return self.lm_head(self.norm(self.blocks(x)))


def build():
    """Build the network, its weights not set."""
    return GPT2()


def load(device="cpu"):
    """Build the network and read its weights."""
    model = build()
    weights = Path(__file__).with_suffix(".safetensors")
    model.load_state_dict(load_file(weights, device=str(device)))
    return model.to(device).eval()
