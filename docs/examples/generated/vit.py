"""A neural network, written by redir as PyTorch.

It holds 158,090 numbers in 44 tensors. load() gives the module,
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
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(x.flatten(2))


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


class ViT(nn.Module):
    """The whole network."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, 64))
        self.positions = nn.Parameter(torch.empty(1, 65, 64))
        self.patches = nn.Conv2d(3, 64, 4, stride=4)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        x = self.cls_token.expand(images.shape[0], -1, -1)
        y = self.patches(images).flatten(2).transpose(1, 2)
        x = self.blocks(torch.cat([x, y], 1) + self.positions)
        return self.head(self.norm(x)[:, 0])


def build():
    """Build the network, its weights not set."""
    return ViT()


def load(device="cpu"):
    """Build the network and read its weights."""
    model = build()
    weights = Path(__file__).with_suffix(".safetensors")
    model.load_state_dict(load_file(weights, device=str(device)))
    return model.to(device).eval()
