"""Draw what the passes find in the model that ships with redir: the pictures of docs/red.md."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

import redir
from redir.ops import tensor_of
from redir.passes.hash.figures import draw_density, draw_distinct
from redir.passes.uneven_depthwise.figures import draw_ranks
from redir.pipeline import Pipeline

FOLDED = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm")


def main(folder: Path) -> None:
    """Write the pictures as SVG."""
    model = FOLDED.run(redir.load(Path(redir.__file__).parent / "demo" / "digits.onnx"))
    hashed = Pipeline.parse("hash").run(model)
    layer = [node for node in model.nodes if node.op.name == "Conv"][-1]
    weights = tensor_of(layer.inputs[1])
    assert weights is not None
    pictures = {
        "density": draw_density(weights.array, 0.1, title=layer.name),
        "distinct": draw_distinct({"trained": model, "hashed": hashed}),
        "ranks": draw_ranks(model, error=0.3),
    }
    with mpl.rc_context({"svg.hashsalt": "redir"}):  # the same bytes each time
        for name, figure in pictures.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
