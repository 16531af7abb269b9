"""Print what redir-shifts makes of the model that ships with redir.

The package has to be installed, and redir with the extra ``ort``::

    python -m pip install docs/examples/redir_plugin
    python docs/examples/redir_plugin/show.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from redir_shifts.costs import additions

import redir
from redir.evaluation import accuracy
from redir.runtime.onnxruntime import runner

DEMO = Path(redir.__file__).parent / "demo"
ROUNDED = "fold-constants,fold-batchnorm,shift-weights{terms=%d}"
PRUNED = f"prune{{criterion=per_addition,channel_ratio=0.1}},{ROUNDED % 2}"
PIPELINES = {
    "as it is": "fold-constants,fold-batchnorm",
    "3 terms": ROUNDED % 3,
    "2 terms": ROUNDED % 2,
    "1 term": ROUNDED % 1,
    "pruned, 2 terms": PRUNED,
}


def main() -> None:
    """A line for each pipeline: additions of one image, and accuracy on 300 of them."""
    graph = redir.load(DEMO / "digits.onnx")
    with np.load(DEMO / "digits.npz") as bank:
        images, labels = {"image": bank["image"]}, bank["label"]
    print(f"{'weights':16} {'additions':>10} {'accuracy':>9}")
    for name, pipeline in PIPELINES.items():
        made = redir.compress(graph, pipeline=pipeline)
        share = accuracy(runner(made), images, labels)
        print(f"{name:16} {additions(made):10,} {100 * share:8.2f}%")


if __name__ == "__main__":
    main()
