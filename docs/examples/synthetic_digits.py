"""Write the statistics of redir's demonstration: inputs made from its network alone.

``redir/demo/digits-synthetic.npz`` holds 128 inputs on which each batch norm of ``digits.onnx``
sees about the mean and variance that it stored in training. No image is used. It needs torch::

    python docs/examples/synthetic_digits.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import redir
from redir.statistics import source

DEMO = Path(__file__).resolve().parents[2] / "redir" / "demo"
EXAMPLES = 128


def main() -> None:
    """Make the inputs, and write them."""
    graph = redir.load(DEMO / "digits.onnx")
    batches = source("synthetic").batches(graph, EXAMPLES, seed=0)
    images = np.concatenate([batch["image"] for batch in batches])
    np.savez_compressed(DEMO / "digits-synthetic.npz", image=images)


if __name__ == "__main__":
    main()
