"""What redir makes of the model that ships with it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from redir.app import api
from redir.app.tables import COLUMNS, Row
from redir.cost import total
from redir.evaluation import accuracy
from redir.io import arrays, models
from redir.ir import Graph
from redir.pipeline import Pipeline
from redir.pipeline.presets import PRESETS, preset
from redir.progress import progress
from redir.runtime import onnxruntime

SMALLEST = "palettize{error=0.08}"  # behind the exact passes
_SHOWN = [name for name in PRESETS if name != "palettes"]  # which is exact without a target
MODELS = ("original", *_SHOWN, SMALLEST)
_BEST = {"macs": 0.3, "forms": "spatial+reduce+expand+low-rank", "align": 8}


def table() -> tuple[Row, list[Row]]:
    """The head and rows of a table with a line for the model and for each pipeline.

    ``time`` is that of 64 images in onnxruntime on one thread, as a share of the original's.
    """
    folder = resources.files("redir") / "demo"
    with resources.as_file(folder / "digits.onnx") as model:
        graph = models.load(model)
    with resources.as_file(folder / "digits.npz") as path:
        images, labels = arrays.labelled(path, graph)
    some, before = {n: a[:64] for n, a in images.items()}, onnxruntime.session(graph, exact=False)
    rows: list[Row] = []
    for name, after in _models(folder, graph).items():
        cost, run = total(after), onnxruntime.session(after, exact=False)
        right, time = accuracy(run, images, labels), 1.0
        if after is not graph:
            time = onnxruntime.pair_ratio(before, run, some)
        counts = (getattr(cost, c) for c in COLUMNS)
        rows.append((name, *counts, f"{100 * right:.2f}%", f"{100 * time:.0f}%"))
    return ("model", *COLUMNS, "accuracy", "time"), rows


def _models(folder: Traversable, graph: Graph) -> Mapping[str, Graph]:
    """The original, and what each pipeline makes of it."""
    with resources.as_file(folder / "digits-synthetic.npz") as statistics:
        best = preset("best").given(**_BEST, statistics=str(statistics))
        given = {name: best if name == "best" else preset(name) for name in _SHOWN}
        given[SMALLEST] = Pipeline.parse(f"{PRESETS['exact']},{SMALLEST}")
        steps = progress(given.items(), "pipelines", alike=False)
        made = {n: api.compress(graph, pipeline=p, check=False) for n, p in steps}
    return {"original": graph, **made}
