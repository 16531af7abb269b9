"""What the JSON of a run holds beside its result: all that a report needs."""

from __future__ import annotations

import argparse
import platform
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from redir.app.report.layers import compared
from redir.channels import families
from redir.check.guarantees import operations
from redir.cost import example_shapes, total
from redir.ir import Graph
from redir.layers.palette import unpacked
from redir.ops import is_operator
from redir.pipeline.compress import Result
from redir.pipeline.runner import Ran
from redir.runtime.onnxruntime import is_huge
from redir.runtime.open_sizes import Shapes

_PACKAGES = ("redir", "numpy", "scipy", "onnx", "onnxruntime", "torch")


def run_of(options: argparse.Namespace) -> dict[str, Any]:
    """The command, its model and output, and the versions of what it ran on."""
    command = shlex.join(["redir", *options.argv])
    found = {name: known for name in _PACKAGES if (known := _version(name))}
    return {
        "command": command,
        "model": options.model,
        "out": options.out,
        "versions": {"python": platform.python_version(), **found},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass
class Steps:
    """What each pass promised and left: an instrument of the runner.

    Counts are those of inputs of ``shapes``, as far as the model leaves them open.
    """

    shapes: Shapes
    told: list[dict[str, Any]] = field(default_factory=list)
    sizes: Shapes | None = None

    def __call__(self, ran: Ran) -> None:
        """Keep what there is to say of a pass."""
        if self.sizes is None:
            self.sizes = example_shapes(ran.before, self.shapes)
        left = None
        if ran.changed:
            counts = total(ran.after, self.sizes, values=False).structural
            left = {"nodes": operations(ran.after), **counts}
        promises = [promise.name for promise in ran.step.guarantees]
        self.told.append({"promises": promises, "left": left})


def facts(before: Graph, result: Result, steps: Steps) -> dict[str, Any]:
    """The result as ``compress --json`` prints it, and what became of each part of the model."""
    held, after = result.as_dict(), result.graph
    passes = [{**step, **told} for step, told in zip(held["passes"], steps.told, strict=True)]
    return {
        **held,
        "reason": result.reason,
        "passes": passes,
        "operators": {"before": _operators(before), "after": _operators(after)},
        "layers": compared(before, after, result.sizes, values=not is_huge(before)),
        "families": families.as_dict(families.families(unpacked(after))),
    }


def _operators(graph: Graph) -> Mapping[str, int]:
    """How often each operator is there, the most frequent first."""
    return dict(Counter(str(node.op) for node in graph.walk() if is_operator(node)).most_common())
