"""Draw the pictures of the documentation.

For docs/red.md and the README, what is found in the model that ships with redir; for the rest, what
was measured: by ``tests.benchmarks.peers``, ``low_data.py`` and ``dynamic_sparsity.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

import redir
from redir.app.svg import drawing
from redir.channels.families import families
from redir.figures import empty
from redir.ops import tensor_of
from redir.passes.hash.figures import draw_density, draw_distinct
from redir.passes.uneven_depthwise.figures import draw_ranks
from redir.pipeline import Pipeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
NETWORKS = {
    "cifar10-resnet20": "ResNet-20, CIFAR-10",
    "imagenet-mobilenetv2": "MobileNetV2, ImageNet",
}
FOLDED = Pipeline.parse("fold-constants,eliminate-identity,fold-batchnorm")


def stored(name: str) -> Any:
    """What a file beside this one holds."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def draw_peers(networks: Mapping[str, str]) -> Figure:
    """Draw how much is right at each share of the multiply-adds, with nothing trained on."""
    figure = empty(4.6 * len(networks), 3.6)
    places = figure.subplots(1, len(networks))
    for axes, (network, title) in zip(places, networks.items(), strict=True):
        measured = stored(f"peers/{network}.json")
        axes.axhline(measured["accuracy"], color="grey", linestyle="--", label="original")
        for method, points in measured["methods"].items():
            at = [1, *(point["left"] for point in points)]
            right = [measured["accuracy"], *(point["accuracy"] for point in points)]
            axes.plot(at, right, "o-" if method.startswith("redir") else "x:", label=method)
        axes.set(title=title, xlabel="multiply-adds left", ylabel="accuracy, %", ylim=(0, 100))
        axes.invert_xaxis()
        axes.grid(alpha=0.3)
    places[0].legend(fontsize="small")
    return figure


def draw_low_data(network: str) -> Figure:
    """Draw what is right by the channels that are kept, dashed without reconstruction.

    Of the criteria those that were measured at several shares.
    """
    figure = empty(6, 3.6)
    axes = figure.subplots()
    found = stored(f"low_data/{network}.json").items()
    for place, (name, cells) in enumerate(pair for pair in found if len(pair[1]) > 1):
        for way, style in (("as it is", ".--"), ("reconstructed", ".-")):
            points = sorted((float(share), fmean(cell[way])) for share, cell in cells.items())
            label = name if way == "reconstructed" else None
            axes.plot(*zip(*points, strict=True), style, color=f"C{place}", label=label)
    axes.set(xlabel="channels kept", ylabel="accuracy, %", ylim=(0, 100))
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def draw_sparsity() -> Figure:
    """Draw how many channels are asleep after each epoch, and the rate of the penalty."""
    epochs = stored("sparsity.json")
    figure = empty(6, 3)
    axes = figure.subplots()
    at = range(1, len(epochs) + 1)
    axes.plot(at, [100 * epoch["share"] for epoch in epochs], "o-", color="C0")
    axes.axhline(50, color="grey", linestyle="--")
    axes.set(xlabel="epoch", ylabel="channels asleep, %", ylim=(0, 60))
    axes.yaxis.label.set_color("C0")
    rates = axes.twinx()
    rates.plot(at, [epoch["rate"] for epoch in epochs], "x:", color="C1")
    rates.set_ylabel("rate of the penalty", color="C1")
    return figure


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
        "peers": draw_peers(NETWORKS),
        "low-data": draw_low_data("cifar10-resnet20"),
        "sparsity": draw_sparsity(),
    }
    channels = drawing(model, families(model))  # as redir groups --svg draws them
    (folder / "groups.svg").write_text(channels, encoding="ascii")
    with mpl.rc_context({"svg.hashsalt": "redir"}):  # the same bytes each time
        for name, figure in pictures.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
