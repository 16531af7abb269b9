"""Train the demonstration network of redir and write its model and evaluation files.

The network is a small residual CNN with batch normalisation. It reads the 8x8 grey digits that
scikit-learn ships as ``load_digits``: the test part of "Optical Recognition of Handwritten
Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0.

Of the 1797 images 300 are held out, stratified by class, and never seen in training. Two files
are written to ``redir/demo`` (or to the folder given with ``--out``):

* ``digits.onnx``: the trained network, its batch normalisations kept as nodes of their own.
  Input ``image`` is float32 [batch, 1, 8, 8] in [0, 1], output ``logits`` float32 [batch, 10].
* ``digits.npz``: the held-out images ``image`` (float32, as the network reads them) and their
  classes ``label`` (int64).

It takes well under a minute on one core, and a second run on the same machine writes the same
bytes. It needs torch, numpy, onnx, onnxruntime and scikit-learn::

    python docs/examples/train_digits.py
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 0
HELD_OUT = 300
WIDTHS = (16, 32, 64)
CLASSES = 10
MAX_PIXEL = 16.0
EPOCHS = 30
BATCH = 64
PEAK_RATE = 0.1
WEIGHT_DECAY = 5e-4
OPSET = 17
TOLERANCE = 1e-4
DEMO = Path(__file__).resolve().parents[2] / "redir" / "demo"

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Split(NamedTuple):
    """Images with their classes, for training and held out.

    Attributes:
        train_image: Images to train on, [n, 1, 8, 8] in [0, 1].
        train_label: Classes of the images to train on.
        image: Held-out images, of the same form.
        label: Classes of the held-out images.
    """

    train_image: Images
    train_label: Labels
    image: Images
    label: Labels


class Block(nn.Module):
    """Basic residual block: two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Build the block.

        Args:
            inputs: Channels read.
            outputs: Channels written.
            stride: Step of the first convolution, and of the shortcut.
        """
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Activations, [batch, inputs, height, width].

        Returns:
            Activations, [batch, outputs, height / stride, width / stride].
        """
        result: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return result


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build the path around a block.

    Args:
        inputs: Channels read.
        outputs: Channels written.
        stride: Step of the block.

    Returns:
        The identity where the shapes agree, else a normalised 1x1 convolution.
    """
    if inputs == outputs and stride == 1:
        return nn.Identity()
    projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(outputs))


def build() -> nn.Module:
    """Build the untrained network.

    Returns:
        A stem, one residual block per width, a global average pool and a linear layer.
    """
    first, second, third = WIDTHS
    layers: dict[str, nn.Module] = {
        "stem": nn.Conv2d(1, first, 3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(first),
        "relu": nn.ReLU(),
        "block1": Block(first, first, 1),
        "block2": Block(first, second, 2),
        "block3": Block(second, third, 2),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(third, CLASSES),
    }
    return nn.Sequential(OrderedDict(layers))


def load() -> Split:
    """Load the digits and hold some of them out.

    Returns:
        The images, scaled to [0, 1], and their classes.
    """
    digits = load_digits()
    image = (digits.images[:, None] / MAX_PIXEL).astype(np.float32)
    label = digits.target.astype(np.int64)
    parts = train_test_split(image, label, test_size=HELD_OUT, stratify=label, random_state=SEED)
    return Split(parts[0], parts[2], parts[1], parts[3])


def make_deterministic() -> None:
    """Make a second run on the same machine give the same weights."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)


def train(model: nn.Module, split: Split) -> None:
    """Train the network in place, and leave it in inference mode.

    Args:
        model: The network.
        split: The data, of which only the training part is read.
    """
    image, label = torch.from_numpy(split.train_image), torch.from_numpy(split.train_label)
    optimizer = torch.optim.SGD(
        model.parameters(), PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    steps = EPOCHS * -(-len(label) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(label)).split(BATCH):
            step(model, optimizer, image[rows], label[rows])
            schedule.step()
    model.eval()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, label: Tensor) -> None:
    """Take one step of gradient descent.

    Args:
        model: The network.
        optimizer: The optimizer of its parameters.
        image: Images of one batch.
        label: Classes of one batch.
    """
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(image), label)
    loss.backward()
    optimizer.step()


def export(model: nn.Module) -> bytes:
    """Export the network with its batch normalisations unfused.

    Args:
        model: The trained network, in inference mode.

    Returns:
        The ONNX file.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 8, 8),),
            buffer,
            dynamo=False,
            do_constant_folding=False,
            # Anything but EVAL keeps the exporter from folding normalisations into convolutions.
            training=torch.onnx.TrainingMode.PRESERVE,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    return buffer.getvalue()


def require(*, holds: bool, message: str) -> None:
    """Stop the script where a check of its result fails.

    Args:
        holds: Whether the check passed.
        message: What is wrong otherwise.

    Raises:
        RuntimeError: If the check failed.
    """
    if not holds:
        raise RuntimeError(message)


def check_form(data: bytes, expected: int) -> None:
    """Check that an ONNX file is valid and holds plain inference normalisations.

    Args:
        data: The ONNX file.
        expected: Number of batch normalisations of the network.
    """
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    require(holds=len(norms) == expected, message="batch normalisations were folded")
    plain = all(len(node.output) == 1 and not in_training(node) for node in norms)
    require(holds=plain, message="a batch normalisation is in training mode")


def in_training(node: onnx.NodeProto) -> bool:
    """Tell whether a node's training mode is set.

    Args:
        node: A BatchNormalization node.

    Returns:
        Whether it would use the statistics of the batch.
    """
    return any(item.name == "training_mode" and item.i != 0 for item in node.attribute)


def torch_logits(model: nn.Module, image: Images) -> Images:
    """Run the network in torch.

    Args:
        model: The network.
        image: Images.

    Returns:
        Its logits.
    """
    with torch.inference_mode():
        logits: Images = model(torch.from_numpy(image)).numpy()
    return logits


def onnx_logits(data: bytes, image: Images) -> Images:
    """Run an exported network in onnxruntime.

    Args:
        data: The ONNX file.
        image: Images.

    Returns:
        Its logits.
    """
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": image})[0], np.float32)


def accuracy(logits: Images, label: Labels) -> float:
    """Compute the share of images classified correctly.

    Args:
        logits: Logits, [n, classes].
        label: Classes.

    Returns:
        The accuracy, 0 to 1.
    """
    return float(np.mean(logits.argmax(1) == label))


def check_result(model: nn.Module, data: bytes, split: Split) -> float:
    """Check that the exported network computes what the trained one does.

    Args:
        model: The trained network.
        data: Its ONNX file.
        split: The data.

    Returns:
        The accuracy on the held-out images.
    """
    check_form(data, sum(isinstance(item, nn.BatchNorm2d) for item in model.modules()))
    ours, theirs = torch_logits(model, split.image), onnx_logits(data, split.image)
    require(
        holds=np.allclose(ours, theirs, TOLERANCE, TOLERANCE),
        message="torch and onnxruntime disagree on the logits",
    )
    score = accuracy(theirs, split.label)
    require(
        holds=score == accuracy(ours, split.label),
        message="torch and onnxruntime disagree on the accuracy",
    )
    return score


def pack(split: Split) -> bytes:
    """Pack the held-out data.

    Args:
        split: The data.

    Returns:
        The npz file.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=split.image, label=split.label)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Args:
        path: Where to write it.
        data: Its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        part = Path(folder) / path.name
        part.write_bytes(data)
        part.replace(path)


def main() -> None:
    """Train, check and write the network, and print one line about it."""
    parser = argparse.ArgumentParser(description="Train the demonstration network of redir.")
    parser.add_argument("--out", type=Path, default=DEMO, help="folder to write to")
    out: Path = parser.parse_args().out
    make_deterministic()
    split, model = load(), build()
    train(model, split)
    network, data = export(model), pack(split)
    score = check_result(model, network, split)
    write(out / "digits.onnx", network)
    write(out / "digits.npz", data)
    size = sum(item.numel() for item in model.parameters())
    sys.stdout.write(
        f"{size} parameters, held-out accuracy {score:.4f}, "
        f"digits.onnx {len(network)} bytes, digits.npz {len(data)} bytes\n"
    )


if __name__ == "__main__":
    main()
