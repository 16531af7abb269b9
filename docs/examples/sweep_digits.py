"""Choose how far to go by a sweep: the smallest network of redir's demonstration that stays good.

Several targets are met in one go, which shares what they begin with. Of the results the smallest
is written whose accuracy on images with labels is no more than a point below the original's::

    python docs/examples/sweep_digits.py small.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import redir
from redir.evaluation import accuracy
from redir.pipeline.compress import chosen
from redir.pipeline.sweep import swept
from redir.runtime.onnxruntime import runner

DEMO = Path(redir.__file__).parent / "demo"
INPUTS = str(DEMO / "digits-synthetic.npz")  # made from the network; yours could be real ones
SHARES = (0.8, 0.6, 0.4, 0.2)
DROP = 0.01


def main(out: str) -> None:
    """Sweep, print a line for each target, and write the smallest that is good enough."""
    graph = redir.load(DEMO / "digits.onnx")
    with np.load(DEMO / "digits.npz") as bank:
        images, labels = {"image": bank["image"]}, bank["label"]
    least = accuracy(runner(graph), images, labels) - DROP
    best = redir.cost.total(graph).macs, graph
    pipelines = [chosen(macs=share, statistics=INPUTS) for share in SHARES]
    for place, result, _ in swept(graph, pipelines):
        found, macs = accuracy(runner(result.graph), images, labels), result.after.macs
        print(f"asked {SHARES[place]:.1f}: {macs:,} multiply-adds, accuracy {100 * found:.2f}%")
        if found >= least:
            best = min(best, (macs, result.graph), key=lambda pair: pair[0])
    redir.save(best[1], out)
    print(f"{out}: {best[0]:,} multiply-adds")


if __name__ == "__main__":
    main(*sys.argv[1:])
