"""What the JSON of a run holds beside its result: all that a report needs."""

from __future__ import annotations

import argparse
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import hypot
from typing import Any

from redir.app.report.layers import compared
from redir.channels import families
from redir.check.guarantees import operations
from redir.check.outputs import finite
from redir.cost import example_shapes, total
from redir.ir import Graph
from redir.layers.palette import unpacked
from redir.ops import is_operator
from redir.pipeline.compress import Result
from redir.pipeline.planning import Planned
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
    """What each pass promised and left, and the plans that some carried out: an instrument.

    Counts are those of inputs of ``shapes``, as far as the model leaves them open.
    """

    shapes: Shapes
    told: list[dict[str, Any]] = field(default_factory=list)
    plans: list[Planned] = field(default_factory=list)
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
        "expected": _expected(steps.plans),
        "curve": _curve(steps.plans),
        "layers": _layers(before, result, steps.plans),
        "families": families.as_dict(families.families(unpacked(after))),
    }


def _layers(before: Graph, result: Result, plans: Sequence[Planned]) -> list[dict[str, Any]]:
    """What became of each layer, and how far that alone was expected to move the outputs."""
    rows = compared(before, result.graph, result.sizes, values=not is_huge(before))
    lines = (line for plan in plans for line in plan.lines if getattr(line, "form", None))
    errors = {line.layer: finite(line.error) for line in lines}
    return [{**row, "error": errors.get(row["name"])} for row in rows]


def _expected(plans: Sequence[Planned]) -> float | None:
    """How far plans expected the outputs to move, as a share of their spread; None without any."""
    found = [moved for plan in plans if (moved := getattr(plan, "deviation", None)) is not None]
    return finite(hypot(*found)) if found else None


def _curve(plans: Sequence[Planned]) -> dict[str, Any] | None:
    """What the last plan expected other shares to come to."""
    known = [(plan, curve) for plan in plans if (curve := getattr(plan, "curve", ()))]
    if not known:
        return None
    plan, curve = known[-1]
    points = [{"left": left, "deviation": finite(moved)} for left, moved in curve]
    return {"unit": getattr(plan, "unit", ""), "points": points}


def _operators(graph: Graph) -> Mapping[str, int]:
    """How often each operator is there, the most frequent first."""
    return dict(Counter(str(node.op) for node in graph.walk() if is_operator(node)).most_common())
