"""A neural network, written by redir as PyTorch.

It holds 269,034 numbers in 40 tensors. load() gives the module,
its weights read from the file of the same name that ends in .safetensors.
"""

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class BasicBlock(nn.Module):
    """The part at layer1.0, layer1.1 and 5 more."""

    def __init__(self, in_channels):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, in_channels, 3, padding=1)

    def forward(self, x):
        x = self.conv2(F.relu(self.conv1(x))) + x
        return F.relu(x)


class Shortcut(nn.Module):
    """The part at layer2.0.shortcut and layer3.0.shortcut."""

    def __init__(self, padding):
        super().__init__()
        self.padding = padding

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))


class BasicBlock2(nn.Module):
    """The part at layer2.0 and layer3.0."""

    def __init__(self, in_channels, out_channels, padding):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = Shortcut(padding)

    def forward(self, x):
        x = self.conv2(F.relu(self.conv1(x))) + self.shortcut(x)
        return F.relu(x)


class ResNet20(nn.Module):
    """The whole network."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(16), BasicBlock(16), BasicBlock(16))
        self.layer2 = nn.Sequential(
            BasicBlock2(16, 32, padding=8),
            BasicBlock(32),
            BasicBlock(32),
        )
        self.layer3 = nn.Sequential(
            BasicBlock2(32, 64, padding=16),
            BasicBlock(64),
            BasicBlock(64),
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        x = self.layer1(F.relu(self.conv1(images)))
        return self.linear(self.layer3(self.layer2(x)).mean((2, 3)))


def build():
    """Build the network, its weights not set."""
    return ResNet20()


def load(device="cpu"):
    """Build the network and read its weights."""
    model = build()
    weights = Path(__file__).with_suffix(".safetensors")
    model.load_state_dict(load_file(weights, device=str(device)))
    return model.to(device).eval()
