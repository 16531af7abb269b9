"""What the commands read and write: models, notes for people, text and JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redir.app.status import STATUS
from redir.atomic import replacing
from redir.backends.torch.interface import states
from redir.channels import families
from redir.cost import open_layers
from redir.errors import BadInput, RedirError, visible, visible_lines
from redir.io import models
from redir.io.plugins import find_here
from redir.ir import Graph
from redir.pipeline import Pipeline
from redir.progress import progress
from redir.runtime import onnxruntime
from redir.runtime.open_sizes import Shapes
from redir.statistics.given import Images
from redir.statistics.sources import AUTO
from redir.text import parse

READING = "reading the model"


def load(options: argparse.Namespace, model: str) -> Graph:
    """The graph of a file, a factory or standard input, and what is to be said of it first."""
    graph = loaded(options, model)
    say_overridable(options, graph)
    return graph


def loaded(options: argparse.Namespace, model: str) -> Graph:
    """The graph of a file, a factory or standard input."""
    if model == "-":
        return _standard_input()
    find_here(model)
    how = options.overridable_initializers
    (graph,) = [models.load(m, overridable_initializers=how) for m in progress([model], READING)]
    return graph


def say_overridable(options: argparse.Namespace, *graphs: Graph) -> None:
    """Say which inputs of the graphs are state, or initializers that may be overridden."""
    state = {each.input for graph in graphs for each in states(graph)}
    count = max(len(graph.defaults.keys() - state) for graph in graphs)
    if state:
        names = families.and_more(list(map(repr, sorted(state))))
        note(
            options,
            f"note: {names}, state that the module keeps, is an input whose default is its value, "
            "and an output whose name ends in _next",
        )
    if count:
        note(
            options,
            f"warning: {count} initializers are inputs too and may be overridden, so they stay as "
            "they are; --overridable-initializers=constant takes them for constants",
        )


def _standard_input() -> Graph:
    try:
        return parse(sys.stdin.read())
    except UnicodeError:
        raise BadInput("standard input: not a text; name the file of an ONNX model") from None
    except RedirError as error:
        raise type(error)(f"standard input: {error}") from None


def note(options: argparse.Namespace, text: str) -> None:
    """Say something on standard error, unless the command is to be quiet."""
    if not getattr(options, "quiet", False):
        say(f"redir: {visible(text)}")


WRITTEN: dict[str, None] = {}  # the files that the command has written


def save(graph: Graph, out: str, *, notes: bool = True) -> None:
    """Write a graph to a file, or print it."""
    if out == "-":
        print(graph, end="")
    else:
        for path in progress([out], "writing the model"):
            models.save(graph, path, notes=notes)
        WRITTEN[out] = None


def say(text: str) -> None:
    """Print lines on standard error."""
    STATUS.say(lambda: print(visible_lines(text), file=sys.stderr))


def hint(options: argparse.Namespace, text: str) -> None:
    """Name the next step, to a person at a terminal."""
    if sys.stderr.isatty():
        note(options, text)


def own_files(options: argparse.Namespace, graph: Graph) -> set[Path]:
    """The files that must not be written to."""
    return set() if options.model == "-" else models.files(graph, options.model)


def dump(data: Any, path: str) -> None:
    """Write an object as JSON."""
    write(json.dumps(data, indent=2) + "\n", path)


def write(text: str, path: str) -> None:
    """Write a text to a file, or print it."""
    if path == "-":
        print(text, end="")
        return
    with replacing(Path(path)) as (file,):
        file.write(text.encode())
    WRITTEN[path] = None


def say_counted(options: argparse.Namespace, graph: Graph, sizes: Shapes) -> None:
    """Say with which sizes multiply-adds were counted, where the model leaves them open."""
    free = [name for name, v in graph.inputs.items() if v.type.static is None and name in sizes]
    if free:
        named = ", ".join(f"{name}={'x'.join(map(str, sizes[name]))}" for name in free)
        note(options, f"counted with {named}; --input gives other sizes")
    count = open_layers(graph, sizes)
    if count:
        note(options, f"{count} layers have sizes that are not known; each of those counts as 1")


def say_saturated(options: argparse.Namespace, graph: Graph) -> None:
    """Say that onnxruntime's products of bytes cannot be compared with, where that is so."""
    if onnxruntime.mixes_bytes(graph) and onnxruntime.saturates():
        note(
            options,
            "onnxruntime's products of uint8 and int8 saturate on this CPU; outputs are compared "
            "with exact ones",
        )


_SOURCES = {
    "synthetic": "inputs made to fit the moments that its norms store; no data is used",
    "self": "texts that the model writes itself; no data is used",
    "tokens": "short texts of words drawn at random, a guess; counts of words or the model's own "
    "tokenizer.json, as in --statistics tokenizer.json, or real texts in FILE.npz, lose less",
    "drawn": "inputs drawn at random, a guess (to make better ones takes batch norms, PyTorch, and "
    "a model that is not too large); images of your own, as in --statistics FOLDER, or other "
    "inputs in FILE.npz, lose less",
}


def with_source(
    options: argparse.Namespace, graph: Graph, pipelines: Sequence[Pipeline]
) -> list[Pipeline]:
    """The pipelines with the source of statistics that ``auto`` stands for, which is said."""
    steps = [step for pipeline in pipelines for step in pipeline.passes]
    held = {s for step in steps if isinstance(s := getattr(step, "source", None), Images)}
    for images in held:
        how, usual = images.how(graph).text, " (the usual; --preprocess names another)"
        told = f"statistics from images of {images}, preprocessed as {how}"
        note(options, told if images.preprocess else told + usual)
    looking = [step for step in steps if getattr(step, "observes", True)]
    if all(getattr(step, "statistics", "") != "auto" for step in looking):
        return list(pipelines)
    name = AUTO.choice(graph)
    told = _SOURCES[name]
    if name == "self" and find_spec("torch") is None:
        told += "; with PyTorch, which tells what errors do to its words, far less would be lost"
    note(options, f"statistics from {told}")
    return [pipeline.given(statistics=name) for pipeline in pipelines]
