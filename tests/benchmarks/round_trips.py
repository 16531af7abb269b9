"""What a module becomes on its way through redir, and how far from the module that is.

Each model has a process of its own, since one may take more memory than there is.
"""

from __future__ import annotations

import gc
import json
import logging
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import redir
from redir.check.guarantees import constants
from redir.ir import Graph
from redir.pipeline.presets import preset
from redir.runtime.onnxruntime import session

HEAD = (
    "onnxruntime",
    "to_torch",
    "exact, onnxruntime",
    "exact, to_torch",
    "numbers",
    "after exact",
)
ROUNDING = 1e-5  # as a share of the output's magnitude
ALIVE = 1e-3  # how far the outputs for two inputs are apart at least
MEMORY = 20 * 2**30  # bytes of addresses that the process of a model may have
BATCH_NORMS = torch.nn.modules.batchnorm._BatchNorm
SECONDS = 1500  # that it may take
CELL = re.compile(r"\d\.\de[-+]\d+|[\d,]+")  # a number that is not marked
_REPOSITORY = Path(__file__).parents[2]
_WORDS = 160  # letters of an error that a table shows

Make = Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]


# One model


def compared(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """The cells below ``HEAD``: deviations, or what was raised, and the numbers held."""
    with torch.no_grad():
        settle(module, args, kwargs)
        wanted = module(*args, **kwargs)
    if dependence(wanted) < ALIVE:
        raise ValueError(f"only {dependence(wanted):.0e} of the outputs depends on the inputs")
    graph = _tried(lambda: redir.from_torch(module, args, kwargs))
    if isinstance(graph, str):
        return [graph, *["-"] * (len(HEAD) - 1)]
    before = _both(graph, args, kwargs, wanted)
    after = _tried(lambda: preset("exact").run(graph))
    if isinstance(after, str):
        return [*before, after, "-", f"{numbers(graph):,}", "-"]
    held = numbers(graph), numbers(after)
    grown = "**" if held[1] > held[0] else ""
    cells = [*before, *_both(after, args, kwargs, wanted)]
    return [*cells, f"{held[0]:,}", f"{grown}{held[1]:,}{grown}"]


def settle(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Give batch norms the statistics of what they see, and biases that keep most of it positive.

    With others the signal of a deep network dies away, or its rounding grows as large.
    """
    norms = [part for part in module.modules() if isinstance(part, BATCH_NORMS)]
    hooks = [norm.register_forward_pre_hook(_settles) for norm in norms]
    module(*args, **kwargs)
    for norm, hook in zip(norms, hooks, strict=True):
        norm.eval()
        hook.remove()


def _settles(norm: Any, given: tuple[Any]) -> None:
    """Let a batch norm follow what it is given, unless that is but one number per channel."""
    norm.train(given[0][0, 0].numel() > 1)
    norm.momentum = 1.0
    norm.bias += 1.0


def numbers(graph: Graph) -> int:
    """How many numbers the constants of a graph hold."""
    return sum(tensor.array.size for tensor in constants(graph))


def _both(
    graph: Graph, args: tuple[Any, ...], kwargs: Mapping[str, Any], wanted: Any
) -> Iterator[str]:
    """What onnxruntime gives, and what the module does that is made from the graph."""
    for way in (_in_onnxruntime, _as_a_module):
        found = _tried(lambda way=way: way(graph, args, kwargs, wanted))  # type: ignore[misc]
        marks = "" if isinstance(found, str) or found <= ROUNDING else "**"
        yield found if isinstance(found, str) else f"{marks}{found:.1e}{marks}"
        gc.collect()


def _tried(step: Callable[[], Any]) -> Any:
    """What a step gives, or the words of the error that it raises."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - the table says what it was
        words = f"{type(error).__name__}: {error}".replace("|", "/").split()
        return " ".join(words)[:_WORDS]


def _in_onnxruntime(
    graph: Graph, args: tuple[Any, ...], kwargs: Mapping[str, Any], wanted: Any
) -> float:
    given = torch.utils._pytree.tree_leaves((args, kwargs))
    feeds = dict(zip(graph.inputs, (t.numpy() for t in given), strict=True))
    found = session(graph)(feeds)
    leaves = [t.numpy() for _, t in tensors(wanted)]
    return max(deviation(a, b) for a, b in zip(found.values(), leaves, strict=True))


def _as_a_module(
    graph: Graph, args: tuple[Any, ...], kwargs: Mapping[str, Any], wanted: Any
) -> float:
    with torch.no_grad():
        found = redir.to_torch(graph)(*args, **kwargs)
    pairs = list(zip(tensors(found), tensors(wanted), strict=True))
    if outline(found) != outline(wanted):
        raise TypeError(f"{outline(found)} is no {outline(wanted)}")
    return max(deviation(a.numpy(), b.numpy()) for (_, a), (_, b) in pairs)


def deviation(found: Any, wanted: Any) -> float:
    """How far an array is from another, as a share of the other's magnitude."""
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        raise TypeError(f"{found.dtype}{found.shape} is no {wanted.dtype}{wanted.shape}")
    if not np.isfinite(wanted).all():
        raise ValueError("the module gives no finite numbers")
    if not np.isfinite(found).all():
        return np.inf
    apart = np.abs(found.astype(np.float64) - wanted).max()
    return float(apart / np.abs(wanted).max()) if apart else 0.0


def dependence(wanted: Any) -> float:
    """How far the outputs for two inputs are apart: where they are equal, no error would show."""
    arrays = [t.numpy() for _, t in tensors(wanted) if t.is_floating_point()]
    return min(float(np.abs(a[0] - a[-1]).max() / np.abs(a).max()) for a in arrays)


# The structure of what a module gives


def outline(held: Any) -> Any:
    """The classes and keys around tensors, in which two structures of the same sort are equal."""
    if isinstance(held, torch.Tensor):
        return "Tensor"
    parts = _parts(held)
    if parts is None:
        return repr(held)
    kind = type(held).__name__
    is_mapping = isinstance(held, Mapping) and not is_dataclass(held)
    return {f"mapping {kind}" if is_mapping else kind: {k: outline(part) for k, part in parts}}


def tensors(held: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """The tensors in a structure, with where they stand."""
    if isinstance(held, torch.Tensor):
        return [(path, held)]
    return [pair for key, part in _parts(held) or () for pair in tensors(part, (*path, key))]


def _parts(held: Any) -> list[tuple[Any, Any]] | None:
    """What a structure consists of, by key, place or field; fields that are None are left out."""
    if isinstance(held, Mapping):
        return list(held.items())
    if hasattr(held, "_fields"):
        return list(zip(held._fields, held, strict=True))
    if isinstance(held, list | tuple):
        return list(enumerate(held))
    if is_dataclass(held):
        named = [(field.name, getattr(held, field.name)) for field in fields(held)]
        return [(name, part) for name, part in named if part is not None]
    return None


# Many models


def main(program: str, models: Mapping[str, Make]) -> None:
    """Print the table of the models that the command line names, or else of all."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(compared(*models[sys.argv[2]]())))
        return
    print("| model |", " | ".join(HEAD), "|")
    print("| --- |", " | ".join(["---"] * len(HEAD)), "|", flush=True)
    for name in sys.argv[1:] or models:
        print("|", " | ".join([name, *cells(program, name)]), "|", flush=True)


def cells(program: str, name: str) -> list[str]:
    """What a process of its own says about a model."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    call = [sys.executable, "-m", program, "--one", name]
    try:
        done = subprocess.run(
            call,
            check=False,
            capture_output=True,
            text=True,
            preexec_fn=limit,
            timeout=SECONDS,
            cwd=_REPOSITORY,
        )
    except subprocess.TimeoutExpired:
        return [f"not done after {SECONDS} s", *["-"] * (len(HEAD) - 1)]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended by {done.returncode}"])[-1]
        return [last[:_WORDS], *["-"] * (len(HEAD) - 1)]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def printed(program: str) -> str:
    """The table of all models, which is also printed row by row as it comes."""
    call = [sys.executable, "-m", program]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY) as process:
        lines = []
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines)


def faults(table: str) -> dict[str, Sequence[str]]:
    """The models with an error, a marked deviation, or more numbers than before."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {name: row for name, *row in rows if not all(map(CELL.fullmatch, row))}
