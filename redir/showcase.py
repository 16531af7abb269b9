"""What the presets make of the model that ships with redir."""

from __future__ import annotations

from importlib import resources

from redir import arrays, compiler, models, runtime
from redir.cost import total
from redir.presets import PRESETS
from redir.tables import COLUMNS, Row


def table() -> tuple[Row, list[Row]]:
    """The head and rows of a table with a line for the model and for each preset."""
    folder = resources.files("redir") / "demo"
    with resources.as_file(folder / "digits.onnx") as model:
        graph = models.load(model)
    with resources.as_file(folder / "digits.npz") as path:
        images, labels = arrays.labelled(path, graph)
    rows: list[Row] = []
    for name in ("original", *PRESETS):
        after = graph if name == "original" else compiler.compress(graph, preset=name)
        cost = total(after)
        right = runtime.accuracy(runtime.runner(after), images, labels)
        rows.append((name, *(getattr(cost, c) for c in COLUMNS), f"{100 * right:.2f}%"))
    return ("model", *COLUMNS, "accuracy"), rows
