"""What redir makes of the model that ships with it."""

from __future__ import annotations

from importlib import resources

from redir.app import api
from redir.app.tables import COLUMNS, Row
from redir.cost import total
from redir.io import arrays, models
from redir.pipeline.presets import PRESETS
from redir.runtime import onnxruntime

SMALLEST = "palettize{error=0.08}"  # behind the exact passes
PIPELINES = {**PRESETS, SMALLEST: f"{PRESETS['exact']},{SMALLEST}"}


def table() -> tuple[Row, list[Row]]:
    """The head and rows of a table with a line for the model and for each pipeline."""
    folder = resources.files("redir") / "demo"
    with resources.as_file(folder / "digits.onnx") as model:
        graph = models.load(model)
    with resources.as_file(folder / "digits.npz") as path:
        images, labels = arrays.labelled(path, graph)
    rows: list[Row] = []
    for name, pipeline in {"original": "", **PIPELINES}.items():
        after = api.compress(graph, pipeline=pipeline, check=False) if pipeline else graph
        cost = total(after)
        right = onnxruntime.accuracy(onnxruntime.runner(after), images, labels)
        rows.append((name, *(getattr(cost, c) for c in COLUMNS), f"{100 * right:.2f}%"))
    return ("model", *COLUMNS, "accuracy"), rows
